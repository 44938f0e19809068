import { HerenowError } from "./errors.js";
import type { Welcome } from "./frames.js";
import type { TokenReason } from "./machine.js";
import type { Activity, ConnectionState, DeviceKind, Presence, PresenceChange, StatusOptions } from "./types.js";
import { Watch } from "./watch.js";
import type { PresenceListener } from "./watch.js";
/** How to reach the service, and as whom. */
export interface ClientOptions {
    /** The service, for example `wss://presence.example.com`; in a browser it may be relative to the page. */
    readonly url: string | URL;
    /** Gives a token whenever one is needed: for each connection, and before one runs out. */
    readonly token: (reason: TokenReason) => Promise<string> | string;
    /** This installation's id, 1 to 64 bytes. Default: the gateway makes one up per connection. */
    readonly device?: string | undefined;
    /** What this device is. Default: the gateway takes it for `web`. */
    readonly kind?: DeviceKind | undefined;
    /** The class of WebSockets to use. Default: the runtime's own; Node 20 has none, so pass that of `ws`. */
    readonly WebSocket?: unknown;
}
/** What a `state` listener is told. */
export interface StateEvent {
    /** How the connection is doing. */
    readonly state: ConnectionState;
    /** Why, when it is `reconnecting` or `closed`. */
    readonly reason?: HerenowError;
    /** When `reconnecting`: how long until the next attempt, in milliseconds. */
    readonly retryInMs?: number;
}
/** The events of a client, by name. */
export interface ClientEvents {
    /** The connection's state changed. */
    state: StateEvent;
    /** A watched user's presence changed. */
    presence: PresenceChange;
    /** Something went wrong that no call is waiting for: a watch that was refused, a token that could not be renewed. */
    error: HerenowError;
}
/** The client: one connection to Herenow that keeps itself up, and what is known of the users it watches. */
export declare class HerenowClient {
    #private;
    /** @throws HerenowError `invalid_option`, `no_websocket`. */
    constructor(options: ClientOptions);
    /** How the connection is doing. */
    get state(): ConnectionState;
    /** What the gateway said when this session opened: whose it is, and its times; `undefined` before. */
    get session(): Welcome | undefined;
    /** Opens the connection and keeps it open. Resolves when it is open the first time; rejects when it is closed for good. */
    connect(): Promise<void>;
    /** Says goodbye: the user is seen to leave at once, unless another session of it is open. */
    close(): void;
    /**
     * Watches users: `listener` is told what is known of each, then every change. Without a listener, iterate over what
     * this returns. Users may be watched several times; each watch is closed by itself.
     * @throws HerenowError `invalid_user_id`.
     */
    watch(userIds: Iterable<string>, listener?: PresenceListener): Watch;
    /** Takes users off every watch. */
    unwatch(userIds: Iterable<string>): void;
    /** Asks for users once, in the order given. Waits for the connection if need be, at most 10 s in all. */
    query(userIds: Iterable<string>): Promise<Presence[]>;
    /** Sets this user's own status, or with `auto` ends it. Resolves when it holds. */
    setStatus(status: StatusOptions): Promise<void>;
    /** Says what the person does: at once, and in every heartbeat from now on. */
    setActivity(activity: Activity): void;
    /** What is known of a watched user. */
    presence(userId: string): Presence | undefined;
    /** Listens to an event; returns what stops listening. */
    on<E extends keyof ClientEvents>(event: E, listener: (event: ClientEvents[E]) => void): () => void;
}
