import type { Presence, PresenceChange } from "./types.js";
/**
 * The latest known presence of every watched user: clauses SDK-P1 to SDK-P9 of protocol/vectors. It never goes back
 * to an older record while it is sure of a newer one, and it says `unknown` rather than show what nobody has
 * confirmed for too long. Times are milliseconds of a clock that only measures differences.
 */
export declare class PresenceMap {
    #private;
    /** Who is watched, whether or not anything is known of them. */
    get watched(): ReadonlySet<string>;
    /** What is known of a user. */
    get(userId: string): Presence | undefined;
    /** Everything known. */
    values(): Presence[];
    watch(users: Iterable<string>): void;
    unwatch(users: Iterable<string>): void;
    /** A connection is up. `serverTime` is the gateway's wall clock, in milliseconds since 1970. */
    connected(now: number, serverTime: number, freshForMs: number): void;
    /** A byte came. */
    heard(now: number): void;
    /** The connection is gone: nothing is confirmed any longer, and what is not confirmed again decays. */
    disconnected(): void;
    /** Takes the records of one frame, in their order. Returns what a person would see change, once a user. */
    frame(records: readonly Presence[]): PresenceChange[];
    /** When {@link advance} is due; `Infinity` when never. */
    pollTimeout(): number;
    /** Lets everything decay that is due. Returns what a person would see change. */
    advance(now: number): PresenceChange[];
}
