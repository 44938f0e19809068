import { HerenowError } from "./errors.js";
import type { ClientFrame, Welcome } from "./frames.js";
import { PresenceMap } from "./presence-map.js";
import type { Outcome, RequestBody } from "./requests.js";
import type { Activity, ConnectionState, PresenceChange } from "./types.js";
/** Why a token is asked for. */
export type TokenReason = "connect" | "expiring" | "expired";
/** What the machine wants done. Outputs are carried out in order. */
export type Output = {
    readonly type: "token";
    readonly reason: TokenReason;
} | {
    readonly type: "open";
    readonly token: string;
} | {
    readonly type: "send";
    readonly frame: ClientFrame;
} | {
    readonly type: "drop";
} | {
    readonly type: "state";
    readonly state: ConnectionState;
    readonly reason?: HerenowError;
    readonly retryInMs?: number;
} | {
    readonly type: "changes";
    readonly changes: readonly PresenceChange[];
} | {
    readonly type: "answer";
    readonly ticket: number;
    readonly outcome: Outcome;
} | {
    readonly type: "error";
    readonly error: HerenowError;
};
/**
 * The connection as a state machine: no clock, no socket, no timer, no randomness but what it is given. Each call
 * takes the present moment and returns what is to be done; {@link pollTimeout} says when to call
 * {@link handleTimeout} next.
 */
export declare class Connection {
    #private;
    readonly presences: PresenceMap;
    constructor(random: () => number);
    /** What the last `welcome` said. */
    get welcome(): Welcome | undefined;
    /** What the person was last said to do. */
    get activity(): Activity | undefined;
    /** Begins. Without effect unless closed. */
    connect(now: number): Output[];
    /** Ends for good: says `bye`, so that the user is seen to leave at once. */
    close(now: number): Output[];
    /** The token that was asked for. */
    tokenReady(token: string, now: number): Output[];
    /** The token that was asked for could not be had. */
    tokenFailed(cause: unknown, now: number): Output[];
    /** A text frame came. */
    text(text: string, now: number): Output[];
    /**
     * The socket is gone. Without a close frame the code is 1006. `retryAfterMs`: when a gateway that refused the
     * handshake said to come back.
     */
    closed(code: number, detail: string, now: number, retryAfterMs?: number): Output[];
    /** Adds and removes watched users; each set is news to the machine. */
    watch(add: readonly string[], remove: readonly string[], now: number): Output[];
    /** Asks something for a caller, who gets an `answer` under its ticket. */
    request(ticket: number, body: RequestBody, now: number): Output[];
    /** What the person does; said at once when it changes (flapping costs few frames), and in every heartbeat. */
    setActivity(activity: Activity, now: number): Output[];
    /** The network came back: a client that waits to try again tries now. */
    wake(now: number): Output[];
    /** When {@link handleTimeout} is due, on the monotonic clock; `Infinity` when never. */
    pollTimeout(now: number): number;
    /** Does what is due. */
    handleTimeout(now: number): Output[];
}
