import type { Activity } from "./types.js";
/** Settings of an {@link ActivityMonitor}. */
export interface ActivityMonitorOptions {
    /** Without a pointer or a key for this long the person is idle, in milliseconds. Default 5 min. */
    readonly idleAfterMs?: number;
}
/**
 * Watches over a page and says what its person does. A hidden page is idle (a moment later, in case it is only being
 * reloaded), an untouched one after a while, and a sign of the person makes it active at once. It says nothing when a
 * page goes away: a reload must look like a lost connection that comes back, not like a goodbye.
 */
export declare class ActivityMonitor {
    #private;
    /** Begins. `client` is told of every change, and of the present activity now. */
    constructor(client: {
        setActivity(activity: Activity): void;
    }, options?: ActivityMonitorOptions);
    /** What the person does. */
    get activity(): Activity;
    /** Ends. */
    stop(): void;
}
