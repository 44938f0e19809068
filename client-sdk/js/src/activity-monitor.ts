import type { Activity } from "./types.js";

/** Settings of an {@link ActivityMonitor}. */
export interface ActivityMonitorOptions {
  /** Without a pointer or a key for this long the person is idle, in milliseconds. Default 5 min. */
  readonly idleAfterMs?: number;
}

const DEFAULT_IDLE_AFTER_MS = 5 * 60_000;
/**
 * How long a page must stay hidden before that is said, in milliseconds. A page that is closed or reloaded is hidden
 * too, a moment before it is gone: without this wait everybody would see a reload as a short absence.
 */
const HIDDEN_SETTLE_MS = 150;
const SIGNS = ["pointerdown", "pointermove", "keydown", "wheel", "touchstart"] as const;

/**
 * Watches over a page and says what its person does. A hidden page is idle (a moment later, in case it is only being
 * reloaded), an untouched one after a while, and a sign of the person makes it active at once. It says nothing when a
 * page goes away: a reload must look like a lost connection that comes back, not like a goodbye.
 */
export class ActivityMonitor {
  readonly #tell: (activity: Activity) => void;
  readonly #idleAfterMs: number;
  #activity: Activity | undefined;
  #touchedAt = performance.now();
  #hiddenAt = -Infinity;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** Begins. `client` is told of every change, and of the present activity now. */
  constructor(client: { setActivity(activity: Activity): void }, options: ActivityMonitorOptions = {}) {
    this.#tell = (activity) => client.setActivity(activity);
    this.#idleAfterMs = options.idleAfterMs ?? DEFAULT_IDLE_AFTER_MS;
    for (const sign of SIGNS) globalThis.addEventListener(sign, this.#touched, { passive: true, capture: true });
    document.addEventListener("visibilitychange", this.#turned);
    this.#check();
  }

  /** What the person does. */
  get activity(): Activity {
    return this.#activity ?? "active";
  }

  /** Ends. */
  stop(): void {
    for (const sign of SIGNS) globalThis.removeEventListener(sign, this.#touched, { capture: true });
    document.removeEventListener("visibilitychange", this.#turned);
    clearTimeout(this.#timer);
  }

  readonly #turned = (): void => {
    if (hidden()) this.#hiddenAt = performance.now();
    else this.#touchedAt = performance.now();
    this.#check();
  };

  // A sign of somebody active only notes the time: the timer looks how long ago it was. Moving a pointer costs no timers.
  readonly #touched = (): void => {
    this.#touchedAt = performance.now();
    if (this.#activity !== "active") this.#check();
  };

  readonly #check = (): void => {
    clearTimeout(this.#timer);
    const idleAt = hidden() ? this.#hiddenAt + HIDDEN_SETTLE_MS : this.#touchedAt + this.#idleAfterMs;
    const left = idleAt - performance.now();
    if (left <= 0) this.#become("idle");
    else if (!hidden()) this.#become("active");
    if (left > 0) this.#timer = setTimeout(this.#check, Math.ceil(left));
  };

  #become(activity: Activity): void {
    if (activity === this.#activity) return;
    this.#activity = activity;
    this.#tell(activity);
  }
}

function hidden(): boolean {
  return document.visibilityState === "hidden";
}
