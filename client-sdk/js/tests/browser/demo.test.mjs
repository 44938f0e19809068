// The demo page in a real browser: what people in tabs see of each other.
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { startBrowser } from "./browser.mjs";
import { GRACE_MS, startService } from "./service.mjs";

/** What a loaded machine may add to a bound, in milliseconds: browsers start and stop processes meanwhile. */
const SLACK_MS = 1_500;

let service;
let chromium;
let contexts = [];
let problems = [];

before(async () => {
  service = await startService();
  chromium = await startBrowser();
});
after(async () => {
  await chromium?.stop();
  await service?.stop();
});
afterEach(async () => {
  for (const context of contexts) await context.close();
  contexts = [];
  const found = problems;
  problems = [];
  assert.deepEqual(found, [], "the page reports nothing");
});

/** A browser of one's own: nothing shared with others but the service. */
async function context() {
  const made = await chromium.browser.newContext();
  contexts.push(made);
  return made;
}

/** Opens a tab as somebody, and waits until it is connected. */
async function tab(within, name, more = "", url = service.url) {
  const page = await within.newPage();
  page.on("pageerror", (error) => problems.push(`${name}: ${error.message}`));
  page.on("console", (message) => message.type() === "error" && problems.push(`${name}: ${message.text()}`));
  await page.goto(`${url}?name=${encodeURIComponent(name)}${more}`);
  await page.locator('[data-connection="open"]').waitFor();
  return page;
}

const row = (page, user) => page.locator(`[data-user="${user}"]`);

/** Sets what others see of the person in a tab. */
const choose = (page, label) => page.getByRole("radio", { name: label }).check();

/** Waits until a page shows a user as somebody. */
async function shows(page, user, status, timeout = 10_000) {
  await page.locator(`[data-user="${user}"][data-status="${status}"]`).waitFor({ timeout });
}

/** From now on records every status a page shows of a user, with the time. */
async function record(page, user) {
  await row(page, user).evaluate((element) => {
    element.seen = [];
    new MutationObserver(() => element.seen.push({ status: element.dataset.status, at: Date.now() })).observe(element, {
      attributeFilter: ["data-status"],
    });
  });
}
const recorded = (page, user) => row(page, user).evaluate((element) => element.seen);
const statuses = async (page, user) => (await recorded(page, user)).map((entry) => entry.status);

test("two people see each other", async () => {
  const [ana, ben] = [await tab(await context(), "Ana"), await tab(await context(), "Ben")];
  await shows(ana, "Ben", "online");
  await shows(ben, "Ana", "online");
  await shows(ana, "Ana", "online");
  await ana.locator("#announcer", { hasText: "Ben is online" }).waitFor({ state: "attached" });
});

test("somebody picks a name, is there, and is still the same after a reload", async () => {
  const page = await (await context()).newPage();
  await page.goto(service.url);
  await page.locator('[data-pick="Cleo"]').click();
  await shows(page, "Cleo", "online");
  await page.reload();
  await shows(page, "Cleo", "online");
});

test("somebody with a name of their own can be watched by name", async () => {
  const name = `Zoë "Z" *.> 🦊`;
  const [ana, zoe] = [await tab(await context(), "Ana"), await tab(await context(), name)];
  await ana.fill("#watch-name", name);
  await ana.locator("#watch-form button").click();
  const shown = ana.locator(".row", { hasText: name });
  await shown.locator(".status-word", { hasText: "Online" }).waitFor();
  await zoe.locator("#leave").click();
  await shown.locator(".status-word", { hasText: "Offline" }).waitFor();
});

test("who closes the tab is offline within the grace period and a second", async () => {
  const ana = await tab(await context(), "Ana");
  const bens = await context();
  await tab(bens, "Ben");
  await shows(ana, "Ben", "online");
  await record(ana, "Ben");
  const closed = Date.now();
  await bens.close();
  await shows(ana, "Ben", "offline");
  const seen = await recorded(ana, "Ben");
  assert.deepEqual(
    seen.map((entry) => entry.status),
    ["offline"],
  );
  const took = seen[0].at - closed;
  assert.ok(took <= GRACE_MS + 1_000 + SLACK_MS, `offline after ${took} ms`);
  await row(ana, "Ben")
    .locator(".status-since", { hasText: /last seen (just now|\d+ s ago)/ })
    .waitFor();
});

test("who leaves is offline at once", async () => {
  const [ana, ben] = [await tab(await context(), "Ana"), await tab(await context(), "Ben")];
  await shows(ana, "Ben", "online");
  await record(ana, "Ben");
  const left = Date.now();
  await ben.locator("#leave").click();
  await shows(ana, "Ben", "offline");
  const [seen] = await recorded(ana, "Ben");
  assert.ok(seen.at - left <= 1_000, `offline after ${seen.at - left} ms`);
  await shows(ben, "Ana", "unknown");
  await ben.locator("#leave").click();
  await shows(ana, "Ben", "online");
});

test("nobody sees a reload", async () => {
  const [ana, ben] = [await tab(await context(), "Ana"), await tab(await context(), "Ben")];
  await shows(ana, "Ben", "online");
  await record(ana, "Ben");
  for (let i = 0; i < 3; i += 1) {
    await ben.reload();
    await ben.locator('[data-connection="open"]').waitFor();
  }
  await ana.waitForTimeout(GRACE_MS + 1_000);
  assert.deepEqual(await statuses(ana, "Ben"), []);
});

test("two tabs of one person count once", async () => {
  const ana = await tab(await context(), "Ana");
  const bens = await context();
  const [one, two] = [await tab(bens, "Ben"), await tab(bens, "Ben")];
  await shows(ana, "Ben", "online");
  await record(ana, "Ben");
  await one.close();
  await ana.waitForTimeout(GRACE_MS + 1_000);
  assert.deepEqual(await statuses(ana, "Ben"), []);
  await two.close();
  await shows(ana, "Ben", "offline");
  assert.deepEqual(await statuses(ana, "Ben"), ["offline"]);
});

test("an untouched tab is idle, and a sign of the person makes it active at once", async () => {
  const [ana, ben] = [await tab(await context(), "Ana"), await tab(await context(), "Ben", "&idle=1")];
  await shows(ana, "Ben", "idle");
  await ben.mouse.move(200, 200);
  await shows(ana, "Ben", "online");
  await shows(ana, "Ben", "idle");
});

test("a hidden tab is idle at once", async () => {
  const [ana, ben] = [await tab(await context(), "Ana"), await tab(await context(), "Ben")];
  await shows(ana, "Ben", "online");
  // A headless page is never hidden by itself.
  const turn = (state) =>
    ben.evaluate((value) => {
      Object.defineProperty(document, "visibilityState", { configurable: true, value });
      document.dispatchEvent(new Event("visibilitychange"));
    }, state);
  await turn("hidden");
  await shows(ana, "Ben", "idle", 2_000);
  await turn("visible");
  await shows(ana, "Ben", "online", 2_000);
});

test("do not disturb, a word beside it, and back", async () => {
  const [ana, ben] = [await tab(await context(), "Ana"), await tab(await context(), "Ben")];
  await ben.fill("#status-text", "In a meeting");
  await choose(ben, "Do not disturb");
  await shows(ana, "Ben", "dnd");
  await row(ana, "Ben").locator(".text", { hasText: "In a meeting" }).waitFor();
  await ben.fill("#status-text", "");
  await choose(ben, "What you do");
  await shows(ana, "Ben", "online");
  await row(ana, "Ben").locator(".text").waitFor({ state: "hidden" });
});

test("who is invisible looks offline to others and knows it", async () => {
  const [ana, ben] = [await tab(await context(), "Ana"), await tab(await context(), "Ben")];
  await shows(ana, "Ben", "online");
  await choose(ben, "Invisible");
  await shows(ana, "Ben", "offline");
  await ben.locator('[data-user="Ben"][data-status="online"][data-invisible="true"]').waitFor();
  assert.equal(await row(ana, "Ben").getAttribute("data-invisible"), "false");
  await choose(ben, "What you do");
  await shows(ana, "Ben", "online");
  await ben.locator('[data-user="Ben"][data-invisible="false"]').waitFor();
});

test("cut off from the service, everybody is unknown and nobody offline", async () => {
  const own = await startService(["--scale-times", "10"]);
  const ana = await tab(await context(), "Ana", "", own.url);
  await shows(ana, "Ana", "online");
  await shows(ana, "Ben", "offline");
  await record(ana, "Ana");
  await own.kill();
  await ana.locator('[data-connection="reconnecting"]').waitFor();
  await shows(ana, "Ana", "unknown");
  await shows(ana, "Ben", "unknown");
  assert.deepEqual(await statuses(ana, "Ana"), ["unknown"]);
  assert.ok(
    problems.every((problem) => problem.includes("WebSocket") || problem.includes("ERR_CONNECTION_REFUSED")),
    String(problems),
  );
  problems = [];
});
