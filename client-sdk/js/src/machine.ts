import { attemptAfter, backoffDelay, moveDelay, refusalDelay } from "./backoff.js";
import { closeDuty, closeFacts } from "./codes.js";
import { failure, HerenowError } from "./errors.js";
import { clientFrame, pages, parseServerFrame } from "./frames.js";
import type { ClientFrame, ServerFrame, Welcome } from "./frames.js";
import {
  CONNECT_TIMEOUT_MS,
  REQUESTS_WAITING,
  REQUEST_TIMEOUT_MS,
  TOKEN_TIMEOUT_MS,
  WATCH_RETRY_CAP_MS,
  WATCH_RETRY_MS,
} from "./limits.js";
import { Heartbeat } from "./heartbeat.js";
import { PresenceMap } from "./presence-map.js";
import { Requests } from "./requests.js";
import type { Outcome, Request, RequestBody } from "./requests.js";
import type { Activity, ConnectionState, Presence, PresenceChange } from "./types.js";

/** Why a token is asked for. */
export type TokenReason = "connect" | "expiring" | "expired";

/** What the machine wants done. Outputs are carried out in order. */
export type Output =
  | { readonly type: "token"; readonly reason: TokenReason }
  | { readonly type: "open"; readonly token: string }
  | { readonly type: "send"; readonly frame: ClientFrame }
  | { readonly type: "drop" }
  | {
      readonly type: "state";
      readonly state: ConnectionState;
      readonly reason?: HerenowError;
      readonly retryInMs?: number;
    }
  | { readonly type: "changes"; readonly changes: readonly PresenceChange[] }
  | { readonly type: "answer"; readonly ticket: number; readonly outcome: Outcome }
  | { readonly type: "error"; readonly error: HerenowError };

type Phase =
  | { readonly at: "closed" }
  | { readonly at: "waiting"; readonly until: number }
  | { readonly at: "token"; readonly deadline: number }
  | { readonly at: "opening"; readonly deadline: number }
  | { readonly at: "open" };

/** A gateway asked the client to come back at this moment. */
interface Move {
  readonly at: number;
  readonly reason: string;
}

const TOKEN_LATE = "it took too long";

/** Codes of errors after which the same `watch` may succeed a moment later. */
const PASSING = new Set(["unavailable", "too_many_requests", "overloaded"]);

/**
 * The connection as a state machine: no clock, no socket, no timer, no randomness but what it is given. Each call
 * takes the present moment and returns what is to be done; {@link pollTimeout} says when to call
 * {@link handleTimeout} next.
 */
export class Connection {
  readonly presences = new PresenceMap();
  readonly #random: () => number;
  readonly #requests = new Requests();
  readonly #heartbeat = new Heartbeat();
  #out: Output[] = [];
  #phase: Phase = { at: "closed" };
  #attempt = 0;
  #expired = false;
  #openedAt = 0;
  #tokenAttempt = 0;
  #move: Move | undefined;
  /** On the way to another gateway, as this one asked: no news for the application unless it fails. */
  #moving = false;
  #tokenRetryAt = Infinity;
  #welcome: Welcome | undefined;

  constructor(random: () => number) {
    this.#random = random;
  }

  /** What the last `welcome` said. */
  get welcome(): Welcome | undefined {
    return this.#welcome;
  }

  /** What the person was last said to do. */
  get activity(): Activity | undefined {
    return this.#heartbeat.activity;
  }

  /** Begins. Without effect unless closed. */
  connect(now: number): Output[] {
    if (this.#phase.at === "closed") {
      this.#attempt = 0;
      this.#emit({ type: "state", state: "connecting" });
      this.#askToken(now);
    }
    return this.#flush();
  }

  /** Ends for good: says `bye`, so that the user is seen to leave at once. */
  close(now: number): Output[] {
    if (this.#phase.at === "open") this.#send(clientFrame("bye", {}));
    if (this.#phase.at !== "closed") this.#end(failure.closed(), now);
    return this.#flush();
  }

  /** The token that was asked for. */
  tokenReady(token: string, now: number): Output[] {
    if (this.#phase.at === "token") {
      this.#expired = false;
      this.#phase = { at: "opening", deadline: now + CONNECT_TIMEOUT_MS };
      this.#heartbeat.opening();
      this.#emit({ type: "open", token });
    } else if (this.#phase.at === "open") {
      this.#tokenAttempt = 0;
      this.#send(clientFrame("auth", { token, id: this.#requests.nextId() }));
    }
    return this.#flush();
  }

  /** The token that was asked for could not be had. */
  tokenFailed(cause: unknown, now: number): Output[] {
    const error = failure.tokenFailed(cause);
    if (this.#phase.at === "token") {
      this.#comeBack(error, now);
    } else if (this.#phase.at === "open") {
      this.#emit({ type: "error", error });
      this.#tokenRetryAt = now + backoffDelay(this.#tokenAttempt, this.#random());
      this.#tokenAttempt += 1;
    }
    return this.#flush();
  }

  /** A text frame came. */
  text(text: string, now: number): Output[] {
    if (this.#phase.at !== "opening" && this.#phase.at !== "open") return this.#flush();
    this.#heartbeat.heard(now);
    this.presences.heard(now);
    const frame = parseServerFrame(text);
    if (frame !== undefined) this.#frame(frame, now);
    return this.#flush();
  }

  /**
   * The socket is gone. Without a close frame the code is 1006. `retryAfterMs`: when a gateway that refused the
   * handshake said to come back.
   */
  closed(code: number, detail: string, now: number, retryAfterMs?: number): Output[] {
    if (this.#phase.at !== "opening" && this.#phase.at !== "open") return this.#flush();
    const duty = closeDuty(code);
    const reason = this.#reasonOf(code, detail, retryAfterMs);
    this.#expired = duty === "renew_token";
    if (duty === "done" || duty === "stay") this.#end(reason, now);
    else this.#comeBack(reason, now);
    return this.#flush();
  }

  /** Adds and removes watched users; each set is news to the machine. */
  watch(add: readonly string[], remove: readonly string[], now: number): Output[] {
    this.presences.unwatch(remove);
    this.presences.watch(add);
    if (this.#phase.at === "open") {
      for (const users of pages(remove)) this.#ask({ type: "unwatch", users });
      for (const users of pages(add)) this.#ask({ type: "watch", users });
      this.#pump(now);
    }
    return this.#flush();
  }

  /** Asks something for a caller, who gets an `answer` under its ticket. */
  request(ticket: number, body: RequestBody, now: number): Output[] {
    if (this.#phase.at === "closed") {
      this.#emit({ type: "answer", ticket, outcome: { ok: false, error: failure.closed() } });
    } else if (this.#requests.size >= REQUESTS_WAITING) {
      this.#emit({ type: "answer", ticket, outcome: { ok: false, error: failure.tooManyRequests(REQUESTS_WAITING) } });
    } else {
      this.#requests.push({ body, ticket, deadline: now + REQUEST_TIMEOUT_MS, notBefore: 0, users: [] });
      this.#pump(now);
    }
    return this.#flush();
  }

  /** What the person does; said at once when it changes (flapping costs few frames), and in every heartbeat. */
  setActivity(activity: Activity, now: number): Output[] {
    this.#heartbeat.setActivity(activity);
    if (this.#phase.at === "open") this.#beat(now);
    return this.#flush();
  }

  /** The network came back: a client that waits to try again tries now. */
  wake(now: number): Output[] {
    if (this.#phase.at === "waiting") this.#askToken(now);
    return this.#flush();
  }

  /** When {@link handleTimeout} is due, on the monotonic clock; `Infinity` when never. */
  pollTimeout(now: number): number {
    return Math.min(this.#phaseTimeout(), this.presences.pollTimeout(), this.#requests.pollTimeout(now));
  }

  /** Does what is due. */
  handleTimeout(now: number): Output[] {
    this.#tell(this.presences.advance(now));
    for (const request of this.#requests.expire(now)) this.#fail(request, failure.requestTimeout());
    const phase = this.#phase;
    if (phase.at === "waiting" && now >= phase.until) this.#askToken(now);
    else if (phase.at === "token" && now >= phase.deadline) this.#comeBack(failure.tokenFailed(TOKEN_LATE), now);
    else if (phase.at === "opening" && now >= phase.deadline) this.#dropped(failure.connectFailed(" in time"), now);
    else if (phase.at === "open") this.#openTimeout(now);
    this.#pump(now);
    return this.#flush();
  }

  #phaseTimeout(): number {
    const phase = this.#phase;
    if (phase.at === "waiting") return phase.until;
    if (phase.at === "token" || phase.at === "opening") return phase.deadline;
    if (phase.at === "closed") return Infinity;
    return Math.min(this.#heartbeat.pollTimeout(), this.#move?.at ?? Infinity, this.#tokenRetryAt);
  }

  #openTimeout(now: number): void {
    if (this.#heartbeat.isDead(now)) {
      this.#dropped(failure.heartbeatTimeout(), now);
    } else if (this.#move !== undefined && now >= this.#move.at) {
      this.#moving = true;
      this.#dropped(failure.moving(this.#move.reason), now);
    } else {
      if (now >= this.#tokenRetryAt) this.#renewToken();
      this.#beat(now);
    }
  }

  #beat(now: number): void {
    const frame = this.#heartbeat.take(now, () => this.#requests.nextId());
    if (frame !== undefined) this.#send(frame);
  }

  #renewToken(): void {
    this.#tokenRetryAt = Infinity;
    this.#emit({ type: "token", reason: "expiring" });
  }

  #frame(frame: ServerFrame, now: number): void {
    if (frame.type === "welcome") this.#opened(frame, now);
    else if (frame.type === "snapshot") this.#snapshot(frame.id, frame.users, frame.complete, now);
    else if (frame.type === "presence") this.#tell(this.presences.frame(frame.users));
    else if (frame.type === "ack") this.#answer(frame.id, now);
    else if (frame.type === "error") this.#refused(frame, now);
    else if (frame.type === "token_expiring") this.#renewToken();
    else this.#move ??= { at: now + moveDelay(frame.afterMs, frame.withinMs, this.#random()), reason: frame.reason };
  }

  #opened(welcome: Welcome, now: number): void {
    if (this.#phase.at !== "opening") return;
    this.#phase = { at: "open" };
    this.#welcome = welcome;
    this.#openedAt = now;
    this.#move = undefined;
    this.#tokenRetryAt = Infinity;
    this.#heartbeat.opened(now, welcome);
    this.presences.connected(now, Date.parse(welcome.serverTime), welcome.freshForMs);
    if (!this.#moving) this.#emit({ type: "state", state: "open" });
    this.#moving = false;
    this.#beat(now);
    for (const users of pages(this.presences.watched)) this.#ask({ type: "watch", users });
    this.#pump(now);
  }

  #snapshot(id: number, users: Presence[], complete: boolean, now: number): void {
    this.#tell(this.presences.frame(users));
    this.#requests.sent(id)?.users.push(...users);
    if (complete) this.#answer(id, now);
  }

  #tell(changes: PresenceChange[]): void {
    if (changes.length > 0) this.#emit({ type: "changes", changes });
  }

  #answer(id: number, now: number): void {
    const request = this.#requests.finish(id);
    if (request?.ticket !== undefined) {
      this.#emit({ type: "answer", ticket: request.ticket, outcome: { ok: true, users: request.users } });
    }
    this.#pump(now);
  }

  #refused(frame: Extract<ServerFrame, { type: "error" }>, now: number): void {
    const error = new HerenowError(frame.code, frame.message, frame.remediation ?? "", {
      retryAfterMs: frame.retryAfterMs,
    });
    const request = frame.id === undefined ? undefined : this.#requests.finish(frame.id);
    if (request?.body.type === "watch" && PASSING.has(frame.code)) {
      this.#watchAgain(request.body.users, now + Math.min(frame.retryAfterMs ?? WATCH_RETRY_MS, WATCH_RETRY_CAP_MS));
    } else if (request === undefined) {
      this.#emit({ type: "error", error });
    } else {
      this.#fail(request, error);
    }
    this.#pump(now);
  }

  #watchAgain(all: readonly string[], notBefore: number): void {
    const users = all.filter((user) => this.presences.watched.has(user));
    if (users.length === 0) return;
    this.#requests.push({
      body: { type: "watch", users },
      ticket: undefined,
      deadline: Infinity,
      notBefore,
      users: [],
    });
  }

  #fail(request: Request, error: HerenowError): void {
    if (request.ticket === undefined) this.#emit({ type: "error", error });
    else this.#emit({ type: "answer", ticket: request.ticket, outcome: { ok: false, error } });
  }

  #ask(body: RequestBody): void {
    this.#requests.push({ body, ticket: undefined, deadline: Infinity, notBefore: 0, users: [] });
  }

  #pump(now: number): void {
    if (this.#phase.at !== "open") return;
    for (const frame of this.#requests.take(now)) this.#send(frame);
  }

  #cut(now: number): void {
    this.presences.disconnected();
    this.#tell(this.presences.advance(now));
  }

  #dropped(reason: HerenowError, now: number): void {
    this.#emit({ type: "drop" });
    this.#comeBack(reason, now);
  }

  #comeBack(reason: HerenowError, now: number): void {
    this.#requests.disconnected();
    this.#cut(now);
    if (this.#phase.at === "open") this.#attempt = attemptAfter(this.#attempt, now - this.#openedAt);
    // A move that was announced is no failure: it counts no attempt, and is made once.
    const move = this.#move;
    const told = reason.retryAfterMs;
    const random = this.#random();
    const wait = told === undefined ? backoffDelay(this.#attempt, random) : refusalDelay(told, random);
    const until = move ? Math.max(move.at, now) : now + wait;
    if (!move) this.#attempt += 1;
    this.#move = undefined;
    const quiet = this.#moving && this.#phase.at === "open";
    this.#phase = { at: "waiting", until };
    if (quiet) return;
    this.#moving = false;
    this.#emit({ type: "state", state: "reconnecting", reason, retryInMs: until - now });
  }

  #askToken(now: number): void {
    this.#phase = { at: "token", deadline: now + TOKEN_TIMEOUT_MS };
    this.#emit({ type: "token", reason: this.#expired ? "expired" : "connect" });
  }

  #end(reason: HerenowError, now: number): void {
    if (this.#phase.at === "opening" || this.#phase.at === "open") this.#emit({ type: "drop" });
    this.#cut(now);
    this.#phase = { at: "closed" };
    this.#move = undefined;
    this.#moving = false;
    for (const request of this.#requests.clear()) if (request.ticket !== undefined) this.#fail(request, reason);
    this.#emit({ type: "state", state: "closed", reason });
  }

  #reasonOf(code: number, detail: string, retryAfterMs: number | undefined): HerenowError {
    const facts = closeFacts(code);
    if (facts !== undefined) return new HerenowError(facts.code, facts.message, facts.remediation);
    const tail = `${code === 1006 ? "" : ` with code ${code}`}${detail === "" ? "" : `: ${detail}`}`;
    return this.#phase.at === "opening" ? failure.connectFailed(tail, retryAfterMs) : failure.connectionLost(tail);
  }

  #send(frame: ClientFrame): void {
    this.#emit({ type: "send", frame });
  }

  #emit(output: Output): void {
    this.#out.push(output);
  }

  #flush(): Output[] {
    const out = this.#out;
    this.#out = [];
    return out;
  }
}
