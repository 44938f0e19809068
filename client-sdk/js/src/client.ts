import { failure, HerenowError } from "./errors.js";
import { checkUserId, clientFrame, pages } from "./frames.js";
import type { Welcome } from "./frames.js";
import { STATUS_EMOJI_BYTES, STATUS_TEXT_BYTES } from "./limits.js";
import { Connection } from "./machine.js";
import type { Output, TokenReason } from "./machine.js";
import type { Outcome, RequestBody } from "./requests.js";
import { NO_CLOSE_FRAME, serviceUrl, Transport } from "./transport.js";
import type { WebSocketClass } from "./transport.js";
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

interface Waiter {
  resolve(users: Presence[]): void;
  reject(error: HerenowError): void;
}

/** The client: one connection to Herenow that keeps itself up, and what is known of the users it watches. */
export class HerenowClient {
  readonly #options: ClientOptions;
  readonly #url: URL;
  readonly #Socket: WebSocketClass;
  readonly #connection = new Connection(Math.random);
  readonly #watches = new Set<Watch>();
  readonly #counts = new Map<string, number>();
  readonly #dirty = new Set<string>();
  readonly #waiters = new Map<number, Waiter>();
  readonly #listeners = new Map<keyof ClientEvents, Set<(event: never) => void>>();
  #transport: Transport | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #state: StateEvent = { state: "closed" };
  readonly #outputs: Output[] = [];
  #running = false;
  #tickets = 0;
  #tokenTurn = 0;

  /** @throws HerenowError `invalid_option`, `no_websocket`. */
  constructor(options: ClientOptions) {
    if (typeof options.token !== "function")
      throw failure.invalidOption("`token` must be a function that returns a token.");
    const Socket = options.WebSocket ?? (globalThis as { WebSocket?: unknown }).WebSocket;
    if (typeof Socket !== "function") throw failure.noWebSocket();
    this.#options = options;
    this.#url = serviceUrl(options.url);
    this.#Socket = Socket as WebSocketClass;
  }

  /** How the connection is doing. */
  get state(): ConnectionState {
    return this.#state.state;
  }

  /** What the gateway said when this session opened: whose it is, and its times; `undefined` before. */
  get session(): Welcome | undefined {
    return this.#connection.welcome;
  }

  /** Opens the connection and keeps it open. Resolves when it is open the first time; rejects when it is closed for good. */
  connect(): Promise<void> {
    const opened = new Promise<void>((resolve, reject) => {
      const off = this.on("state", ({ state, reason }) => {
        if (state === "open") resolve();
        else if (state === "closed") reject(reason);
        else return;
        off();
      });
      if (this.state === "open") {
        off();
        resolve();
      }
    });
    // A caller that only listens to `state` need not also catch this promise.
    opened.catch(() => {});
    this.#run(this.#connection.connect(performance.now()));
    globalThis.addEventListener?.("online", this.#online);
    return opened;
  }

  /** Says goodbye: the user is seen to leave at once, unless another session of it is open. */
  close(): void {
    globalThis.removeEventListener?.("online", this.#online);
    this.#run(this.#connection.close(performance.now()));
  }

  /**
   * Watches users: `listener` is told what is known of each, then every change. Without a listener, iterate over what
   * this returns. Users may be watched several times; each watch is closed by itself.
   * @throws HerenowError `invalid_user_id`.
   */
  watch(userIds: Iterable<string>, listener?: PresenceListener): Watch {
    const users = new Set(userIds);
    for (const user of users) checkUserId(user);
    const watch = new Watch(users, listener, (closed) => this.#unwatched(closed));
    this.#watches.add(watch);
    for (const user of users) this.#count(user, 1);
    queueMicrotask(() => this.#tellKnown(watch));
    return watch;
  }

  /** Takes users off every watch. */
  unwatch(userIds: Iterable<string>): void {
    const users = [...userIds];
    for (const watch of this.#watches) {
      for (const user of users) if (watch.users.has(user)) this.#count(user, -1);
      watch.forget(users);
    }
  }

  /** Asks for users once, in the order given. Waits for the connection if need be, at most 10 s in all. */
  async query(userIds: Iterable<string>): Promise<Presence[]> {
    const users = [...userIds];
    for (const user of users) checkUserId(user);
    const answers = await Promise.all(
      pages(new Set(users)).map((page) => this.#request({ type: "query", users: page })),
    );
    const known = new Map(answers.flat().map((presence) => [presence.userId, presence]));
    return users.map((user) => known.get(user)).filter((presence) => presence !== undefined);
  }

  /** Sets this user's own status, or with `auto` ends it. Resolves when it holds. */
  async setStatus(status: StatusOptions): Promise<void> {
    checkBytes("text", status.text, STATUS_TEXT_BYTES);
    checkBytes("emoji", status.emoji, STATUS_EMOJI_BYTES);
    await this.#request(clientFrame("status", { ...status }));
  }

  /** Says what the person does: at once, and in every heartbeat from now on. */
  setActivity(activity: Activity): void {
    this.#run(this.#connection.setActivity(activity, performance.now()));
  }

  /** What is known of a watched user. */
  presence(userId: string): Presence | undefined {
    return this.#connection.presences.get(userId);
  }

  /** Listens to an event; returns what stops listening. */
  on<E extends keyof ClientEvents>(event: E, listener: (event: ClientEvents[E]) => void): () => void {
    const listeners = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, listeners.add(listener as (event: never) => void));
    return () => listeners.delete(listener as (event: never) => void);
  }

  #request(body: RequestBody): Promise<Presence[]> {
    this.#tickets += 1;
    const ticket = this.#tickets;
    return new Promise((resolve, reject) => {
      this.#waiters.set(ticket, { resolve, reject });
      this.#run(this.#connection.request(ticket, body, performance.now()));
    });
  }

  #count(user: string, by: 1 | -1): void {
    const count = (this.#counts.get(user) ?? 0) + by;
    if (count === 0) this.#counts.delete(user);
    else this.#counts.set(user, count);
    // What is watched and unwatched in one turn goes out as few frames, after it.
    if (this.#dirty.size === 0) queueMicrotask(() => this.#syncWatchList());
    this.#dirty.add(user);
  }

  #syncWatchList(): void {
    const dirty = [...this.#dirty];
    this.#dirty.clear();
    const watched = this.#connection.presences.watched;
    const add = dirty.filter((user) => this.#counts.has(user) && !watched.has(user));
    const remove = dirty.filter((user) => !this.#counts.has(user) && watched.has(user));
    this.#run(this.#connection.watch(add, remove, performance.now()));
  }

  #unwatched(watch: Watch): void {
    this.#watches.delete(watch);
    for (const user of watch.users) this.#count(user, -1);
  }

  #tellKnown(watch: Watch): void {
    for (const user of watch.users) {
      const presence = this.presence(user);
      if (presence !== undefined) this.#guard(() => watch.tell({ presence, previous: undefined }));
    }
  }

  readonly #online = (): void => this.#run(this.#connection.wake(performance.now()));

  readonly #tick = (): void => this.#run(this.#connection.handleTimeout(performance.now()));

  #run(outputs: readonly Output[]): void {
    this.#outputs.push(...outputs);
    // A listener that calls this client comes here again; what it causes is done after what is under way.
    if (this.#running) return;
    this.#running = true;
    for (let next = this.#outputs.shift(); next !== undefined; next = this.#outputs.shift()) this.#do(next);
    this.#running = false;
    this.#setTimer();
  }

  #setTimer(): void {
    // The timer is set anew after every frame, not only when it fires: browsers slow down timers that set themselves
    // in hidden pages to one a minute, which is longer than a heartbeat timeout, but not one that a message set.
    clearTimeout(this.#timer);
    const now = performance.now();
    const at = this.#connection.pollTimeout(now);
    if (at === Infinity) return;
    this.#timer = setTimeout(this.#tick, Math.max(0, Math.ceil(at - now)));
    // A program that closed its client may end.
    if (this.state === "closed") (this.#timer as { unref?: () => void }).unref?.();
  }

  #do(output: Output): void {
    if (output.type === "send") this.#transport?.send(output.frame);
    else if (output.type === "changes") this.#changed(output.changes);
    else if (output.type === "answer") this.#answered(output.ticket, output.outcome);
    else if (output.type === "token") void this.#fetchToken(output.reason);
    else if (output.type === "open") this.#open(output.token);
    else if (output.type === "drop") this.#drop();
    else if (output.type === "state") this.#changedState(output);
    else this.#emit("error", output.error);
  }

  async #fetchToken(reason: TokenReason): Promise<void> {
    this.#tokenTurn += 1;
    const turn = this.#tokenTurn;
    let outputs: (now: number) => Output[];
    try {
      const token = await this.#options.token(reason);
      if (typeof token !== "string" || token === "") throw new TypeError("it returned no token");
      outputs = (now) => this.#connection.tokenReady(token, now);
    } catch (cause) {
      outputs = (now) => this.#connection.tokenFailed(cause, now);
    }
    // Another question was asked meanwhile: this answer is for nobody.
    if (turn === this.#tokenTurn) this.#run(outputs(performance.now()));
  }

  #open(token: string): void {
    const { device, kind } = this.#options;
    const target = { url: this.#url, token, device, kind, activity: this.#connection.activity };
    const closed = (code: number, detail: string, retryAfterMs?: number) => {
      this.#transport = undefined;
      this.#run(this.#connection.closed(code, detail, performance.now(), retryAfterMs));
    };
    try {
      this.#transport = new Transport(this.#Socket, target, {
        text: (text) => this.#run(this.#connection.text(text, performance.now())),
        closed,
      });
    } catch (error) {
      // A page that may not open this address, for one, is told so by a throw.
      closed(NO_CLOSE_FRAME, error instanceof Error ? error.message : String(error));
    }
  }

  #drop(): void {
    this.#transport?.drop();
    this.#transport = undefined;
  }

  #changed(changes: readonly PresenceChange[]): void {
    for (const change of changes) {
      for (const watch of this.#watches) {
        if (watch.users.has(change.presence.userId)) this.#guard(() => watch.tell(change));
      }
      this.#emit("presence", change);
    }
  }

  #answered(ticket: number, outcome: Outcome): void {
    const waiter = this.#waiters.get(ticket);
    this.#waiters.delete(ticket);
    if (outcome.ok) waiter?.resolve(outcome.users);
    else waiter?.reject(outcome.error);
  }

  #changedState({ state, reason, retryInMs }: StateEvent): void {
    this.#state = { state, ...(reason && { reason }), ...(retryInMs !== undefined && { retryInMs }) };
    this.#emit("state", this.#state);
  }

  #emit<E extends keyof ClientEvents>(event: E, value: ClientEvents[E]): void {
    for (const listener of this.#listeners.get(event) ?? [])
      this.#guard(() => (listener as (event: ClientEvents[E]) => void)(value));
  }

  /** A listener that throws is reported as any uncaught error, and stops nobody else. */
  #guard(call: () => void): void {
    try {
      call();
    } catch (error) {
      queueMicrotask(() => {
        throw error;
      });
    }
  }
}

function checkBytes(field: string, value: string | undefined, most: number): void {
  const bytes = new TextEncoder().encode(value ?? "").length;
  if (bytes > most) throw failure.invalidValue(`\`${field}\` has at most ${most} bytes, this one has ${bytes}.`);
}
