// A browser for tests: Debian's Chromium, with an empty profile and nothing running by itself.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const ARGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** Starts the browser; `stop` ends it and removes its profile. */
export async function startBrowser() {
  // `launch` makes an empty profile of its own in the temporary folder, and each context is apart from the others.
  const home = mkdtempSync(join(tmpdir(), "herenow-browser-"));
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ARGS,
    env: { ...process.env, HOME: home, XDG_CONFIG_HOME: home, XDG_CACHE_HOME: home },
  });
  const stop = async () => {
    await browser.close();
    rmSync(home, { recursive: true, force: true });
  };
  return { browser, stop };
}
