import { BACKOFF_BASE_MS, BACKOFF_CAP_MS, TOLD_LONGEST_MS, TOLD_SHORTEST_MS } from "./limits.js";

/**
 * How long to wait before attempt number `attempt` (from 0), in milliseconds: full jitter, so that clients who lost
 * one gateway together do not come back together. `random` is drawn from [0, 1).
 */
export function backoffDelay(attempt: number, random: number): number {
  // The exponent is bounded so that a client that tries for years never computes with infinity.
  const ceiling = Math.min(BACKOFF_CAP_MS, BACKOFF_BASE_MS * 2 ** Math.min(attempt, 30));
  return Math.floor(random * ceiling);
}

/**
 * The number of the next attempt after a connection that was up for `lastedMs`, where it was `attempt` before: only one
 * that lasted begins anew, so that a gateway that closes each session at once is not hammered.
 */
export function attemptAfter(attempt: number, lastedMs: number): number {
  return lastedMs >= BACKOFF_CAP_MS ? 0 : attempt;
}

/** How long to wait after a refusal that says when to come back, in milliseconds. `random` is drawn from [0, 1). */
export function refusalDelay(toldMs: number, random: number): number {
  const told = Math.min(Math.max(toldMs, TOLD_SHORTEST_MS), TOLD_LONGEST_MS);
  return told + Math.floor(random * BACKOFF_BASE_MS);
}

/** How long after a `reconnect` frame the client moves, in milliseconds. `random` is drawn from [0, 1). */
export function moveDelay(afterMs: number, withinMs: number, random: number): number {
  return afterMs + Math.floor(random * withinMs);
}
