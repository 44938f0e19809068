/**
 * How long to wait before attempt number `attempt` (from 0), in milliseconds: full jitter, so that clients who lost
 * one gateway together do not come back together. `random` is drawn from [0, 1).
 */
export declare function backoffDelay(attempt: number, random: number): number;
/**
 * The number of the next attempt after a connection that was up for `lastedMs`, where it was `attempt` before: only one
 * that lasted begins anew, so that a gateway that closes each session at once is not hammered.
 */
export declare function attemptAfter(attempt: number, lastedMs: number): number;
/** How long to wait after a refusal that says when to come back, in milliseconds. `random` is drawn from [0, 1). */
export declare function refusalDelay(toldMs: number, random: number): number;
/** How long after a `reconnect` frame the client moves, in milliseconds. `random` is drawn from [0, 1). */
export declare function moveDelay(afterMs: number, withinMs: number, random: number): number;
