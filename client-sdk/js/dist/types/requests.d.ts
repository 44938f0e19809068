import type { HerenowError } from "./errors.js";
import type { ClientFrame } from "./frames.js";
import type { Presence } from "./types.js";
/** A frame without its number: the number is given when it is sent. */
type Numbered = Extract<ClientFrame, {
    id: number;
}>;
export type RequestBody = Numbered extends infer F ? (F extends Numbered ? Omit<F, "id"> : never) : never;
/** One thing asked of the gateway. */
export interface Request {
    /** What is asked. */
    readonly body: RequestBody;
    /** The caller's name for it; `undefined` for what the connection asks on its own account. */
    readonly ticket: number | undefined;
    /** When the caller stops waiting, on the monotonic clock. */
    readonly deadline: number;
    /** Not to be sent before, on the monotonic clock. */
    readonly notBefore: number;
    /** Pages of the answer so far. */
    readonly users: Presence[];
}
/** What is asked and not answered: in order, a bounded number of them on the way at once. */
export declare class Requests {
    #private;
    /** How many wait, sent or not. */
    get size(): number;
    /** Adds at the end. */
    push(request: Request): void;
    /** The frames that may go now. */
    take(now: number): ClientFrame[];
    /** A number no other frame of this connection has. */
    nextId(): number;
    /** The request that went out under a number. */
    sent(id: number): Request | undefined;
    /** Takes out the request that went out under a number. */
    finish(id: number): Request | undefined;
    /**
     * The connection is gone: what callers asked waits again, in order and from its first page. What the connection
     * asked on its own account is forgotten: the next one begins with the whole watch list.
     */
    disconnected(): void;
    /** Takes out what nobody waits for any longer. */
    expire(now: number): Request[];
    /** Takes out everything. */
    clear(): Request[];
    /** When something must be done next, on the monotonic clock. */
    pollTimeout(now: number): number;
}
/** How a request ended. */
export type Outcome = {
    readonly ok: true;
    readonly users: Presence[];
} | {
    readonly ok: false;
    readonly error: HerenowError;
};
export {};
