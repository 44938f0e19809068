// The service that browser tests run against: `herenow dev` in a process of its own.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { FakeServer } from "../fake-server.mjs";

const DEFAULT_BIN = fileURLToPath(new URL("../../../../target/debug/herenow", import.meta.url));
const START_LIMIT_MS = 30_000;

/** The grace period that the tests run with, in milliseconds. */
export const GRACE_MS = 2_000;

/**
 * Starts the service with flags of `herenow dev` and waits for its address. The environment variable HERENOW_BIN names
 * the binary; `fake` takes the fake server of these tests, to work on the page without building the service.
 */
export async function startService(flags = ["--grace-period", `${GRACE_MS}ms`]) {
  const bin = process.env.HERENOW_BIN ?? DEFAULT_BIN;
  if (bin === "fake") {
    const server = await FakeServer.start({ gracePeriodMs: GRACE_MS });
    return { url: server.url, kill: () => server.stop(), stop: () => server.stop() };
  }
  const child = spawn(bin, ["dev", "--port", "0", ...flags], { stdio: ["ignore", "pipe", "inherit"] });
  const exited = once(child, "exit");
  const end = async (signal) => {
    child.kill(signal);
    await exited;
  };
  const late = AbortSignal.timeout(START_LIMIT_MS);
  const url = await Promise.race([
    address(child),
    exited.then(([code]) => Promise.reject(new Error(`${bin} ended with ${code} before it was ready`))),
    once(late, "abort").then(() => Promise.reject(new Error(`no address within ${START_LIMIT_MS} ms`))),
  ]).catch(async (error) => {
    child.kill("SIGKILL");
    throw error;
  });
  return { url, kill: () => end("SIGKILL"), stop: () => end("SIGTERM") };
}

async function address(child) {
  for await (const line of createInterface(child.stdout)) {
    const found = /https?:\/\/127\.0\.0\.1:\d+\//.exec(line);
    if (found) {
      child.stdout.resume();
      return found[0];
    }
  }
  return new Promise(() => {});
}
