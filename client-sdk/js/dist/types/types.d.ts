/** What a live session says of its person. */
export type Activity = "active" | "idle" | "background";
/** What kind of device a session runs on. */
export type DeviceKind = "web" | "mobile" | "desktop" | "server";
/** What watchers see of a user. `unknown`: nobody can say now; `asOf` tells when somebody last could. */
export type Status = "online" | "idle" | "dnd" | "offline" | "unknown";
/** What a user may set by hand. `auto` ends it; `invisible` shows `offline` to everybody else. */
export type ManualStatus = "auto" | "online" | "idle" | "dnd" | "invisible";
/** The public record of a user. */
export interface Presence {
    /** Whose presence it is. */
    readonly userId: string;
    /** What watchers see. */
    readonly status: Status;
    /** When this status began, RFC 3339; for an offline user when it was last seen; `null` for one never seen. */
    readonly lastUpdated: string | null;
    /** Orders all records of the user: plain comparison of two versions is their order. */
    readonly version: string;
    /** What the user wrote beside the status. */
    readonly text?: string;
    /** The emoji beside the status. */
    readonly emoji?: string;
    /** Nobody is active, but a device in the background can still be reached by a push. */
    readonly reachable?: boolean;
    /** The kinds of device in use, where the deployment publishes them. */
    readonly devices?: readonly DeviceKind[];
    /** The user hides from others. Only the user itself is told. */
    readonly invisible?: boolean;
    /** Given when the record may be out of date: the last moment it was known to hold, RFC 3339. */
    readonly asOf?: string;
}
/** One change of one user's presence, as callbacks and iterators are told. */
export interface PresenceChange {
    /** What holds now. */
    readonly presence: Presence;
    /** What held before; `undefined` the first time. */
    readonly previous: Presence | undefined;
}
/** What {@link HerenowClient.setStatus} sets. */
export interface StatusOptions {
    /** What to show. */
    readonly status: ManualStatus;
    /** What to say beside it, at most 256 bytes. */
    readonly text?: string | undefined;
    /** An emoji beside it, at most 64 bytes. */
    readonly emoji?: string | undefined;
    /** When it ends by itself; not given: never. */
    readonly expiresAt?: Date | string | undefined;
}
/** How the connection is doing. */
export type ConnectionState = "connecting" | "open" | "reconnecting" | "closed";
