import type { Presence, PresenceChange } from "./types.js";
/** Told of a presence: `previous` is `undefined` the first time. */
export type PresenceListener = (presence: Presence, previous: Presence | undefined) => void;
/**
 * What {@link HerenowClient.watch} returns: closes the watch, and gives its changes as an async iterator. The iterator
 * holds the latest change per user: one that is read slowly misses values in between, never the last.
 */
export declare class Watch implements AsyncIterable<PresenceChange> {
    #private;
    /** Whom it watches. */
    readonly users: ReadonlySet<string>;
    /** @internal */
    constructor(users: Set<string>, listener: PresenceListener | undefined, onClose: (watch: Watch) => void);
    /** Ends the watch; iterators end too. */
    close(): void;
    /** @internal */
    forget(users: Iterable<string>): void;
    /** @internal */
    tell(change: PresenceChange): void;
    [Symbol.asyncIterator](): AsyncGenerator<PresenceChange, void, void>;
}
