import { clientFrame } from "./frames.js";
import type { ClientFrame, Welcome } from "./frames.js";
import { ACTIVITY_WINDOW_MS } from "./limits.js";
import type { Activity } from "./types.js";

/** The signs of life of both sides: when the next heartbeat is due, what it says, and whether the gateway still lives. */
export class Heartbeat {
  #intervalMs = Infinity;
  #timeoutMs = Infinity;
  #lastHeard = 0;
  #next = Infinity;
  #activity: Activity | undefined;
  /** What the gateway was last told. */
  #told: Activity | undefined;
  #toldAt = -Infinity;
  #activityDue = Infinity;

  /** What the person does. */
  get activity(): Activity | undefined {
    return this.#activity;
  }

  /** What the person does now. It is said at once, or when the last change was said a moment ago, a moment later. */
  setActivity(activity: Activity): void {
    this.#activity = activity;
    this.#activityDue = activity === this.#told ? Infinity : this.#toldAt + ACTIVITY_WINDOW_MS;
  }

  /** The opening handshake goes out, and says what the person does; what changes meanwhile is said after it. */
  opening(): void {
    this.#told = this.#activity;
    this.#toldAt = -Infinity;
    this.#activityDue = Infinity;
  }

  /** The connection is open. */
  opened(now: number, welcome: Welcome): void {
    this.#intervalMs = welcome.heartbeatIntervalMs;
    this.#timeoutMs = welcome.heartbeatTimeoutMs;
    this.#next = now + this.#intervalMs;
    this.heard(now);
  }

  /** Something came from the gateway. */
  heard(now: number): void {
    this.#lastHeard = now;
  }

  /** Whether nothing was heard for too long. */
  isDead(now: number): boolean {
    return now >= this.#lastHeard + this.#timeoutMs;
  }

  /** The heartbeat that is due, if one is. It asks for an answer when nothing was heard for an interval. */
  take(now: number, nextId: () => number): ClientFrame | undefined {
    if (now < Math.min(this.#next, this.#activityDue)) return undefined;
    if (this.#activity !== this.#told) this.#toldAt = now;
    this.#told = this.#activity;
    this.#activityDue = Infinity;
    this.#next = now + this.#intervalMs;
    const quiet = now >= this.#lastHeard + this.#intervalMs;
    return clientFrame("heartbeat", { activity: this.#activity, id: quiet ? nextId() : undefined });
  }

  /** When a heartbeat is due or the gateway is dead, on the monotonic clock. */
  pollTimeout(): number {
    return Math.min(this.#lastHeard + this.#timeoutMs, this.#next, this.#activityDue);
  }
}
