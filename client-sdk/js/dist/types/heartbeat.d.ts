import type { ClientFrame, Welcome } from "./frames.js";
import type { Activity } from "./types.js";
/** The signs of life of both sides: when the next heartbeat is due, what it says, and whether the gateway still lives. */
export declare class Heartbeat {
    #private;
    /** What the person does. */
    get activity(): Activity | undefined;
    /** What the person does now. It is said at once, or when the last change was said a moment ago, a moment later. */
    setActivity(activity: Activity): void;
    /** The opening handshake goes out, and says what the person does; what changes meanwhile is said after it. */
    opening(): void;
    /** The connection is open. */
    opened(now: number, welcome: Welcome): void;
    /** Something came from the gateway. */
    heard(now: number): void;
    /** Whether nothing was heard for too long. */
    isDead(now: number): boolean;
    /** The heartbeat that is due, if one is. It asks for an answer when nothing was heard for an interval. */
    take(now: number, nextId: () => number): ClientFrame | undefined;
    /** When a heartbeat is due or the gateway is dead, on the monotonic clock. */
    pollTimeout(): number;
}
