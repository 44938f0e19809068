import type { Activity } from "./types.js";

/** Settings of an {@link ActivityMonitor}. */
export interface ActivityMonitorOptions {
  /** Without a pointer or a key for this long the person is idle, in milliseconds. Default 5 min. */
  readonly idleAfterMs?: number;
}

const DEFAULT_IDLE_AFTER_MS = 5 * 60_000;
const SIGNS = ["pointerdown", "pointermove", "keydown", "wheel", "touchstart"] as const;

/**
 * Watches over a page and says what its person does: a hidden page is idle at once, an untouched one after a while,
 * and a sign of the person makes it active at once. It says nothing when a page goes away: a reload must look like
 * a lost connection that comes back, not like a goodbye.
 */
export class ActivityMonitor {
  readonly #tell: (activity: Activity) => void;
  readonly #idleAfterMs: number;
  #activity: Activity | undefined;
  #touched = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** Begins. `client` is told of every change, and of the present activity now. */
  constructor(client: { setActivity(activity: Activity): void }, options: ActivityMonitorOptions = {}) {
    this.#tell = (activity) => client.setActivity(activity);
    this.#idleAfterMs = options.idleAfterMs ?? DEFAULT_IDLE_AFTER_MS;
    for (const sign of SIGNS) globalThis.addEventListener(sign, this.#touch, { passive: true, capture: true });
    document.addEventListener("visibilitychange", this.#look);
    this.#look();
  }

  /** What the person does. */
  get activity(): Activity {
    return this.#activity ?? "active";
  }

  /** Ends. */
  stop(): void {
    for (const sign of SIGNS) globalThis.removeEventListener(sign, this.#touch, { capture: true });
    document.removeEventListener("visibilitychange", this.#look);
    clearTimeout(this.#timer);
  }

  readonly #look = (): void => {
    if (document.visibilityState === "hidden") this.#become("idle");
    else this.#touch();
  };

  readonly #touch = (): void => {
    this.#touched = performance.now();
    if (document.visibilityState === "hidden" || this.#activity === "active") return;
    this.#become("active");
    this.#wait(this.#idleAfterMs);
  };

  // A touch only notes the time; the timer looks how long ago it was. Moving a pointer costs no timers.
  readonly #check = (): void => {
    const left = this.#touched + this.#idleAfterMs - performance.now();
    if (left <= 0) this.#become("idle");
    else this.#wait(left);
  };

  #wait(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.#check, Math.ceil(ms));
  }

  #become(activity: Activity): void {
    if (activity === "idle") clearTimeout(this.#timer);
    if (activity === this.#activity) return;
    this.#activity = activity;
    this.#tell(activity);
  }
}
