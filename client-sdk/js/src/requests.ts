import type { HerenowError } from "./errors.js";
import type { ClientFrame } from "./frames.js";
import { REQUESTS_IN_FLIGHT } from "./limits.js";
import type { Presence } from "./types.js";

/** A frame without its number: the number is given when it is sent. */
type Numbered = Extract<ClientFrame, { id: number }>;
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
export class Requests {
  #waiting: Request[] = [];
  readonly #sent = new Map<number, Request>();
  #lastId = 0;

  /** How many wait, sent or not. */
  get size(): number {
    return this.#waiting.length + this.#sent.size;
  }

  /** Adds at the end. */
  push(request: Request): void {
    this.#waiting.push(request);
  }

  /** The frames that may go now. */
  take(now: number): ClientFrame[] {
    const frames: ClientFrame[] = [];
    while (this.#sent.size < REQUESTS_IN_FLIGHT) {
      const next = this.#waiting[0];
      if (next === undefined || next.notBefore > now) break;
      this.#waiting.shift();
      const id = this.nextId();
      this.#sent.set(id, next);
      frames.push({ ...next.body, id } as ClientFrame);
    }
    return frames;
  }

  /** A number no other frame of this connection has. */
  nextId(): number {
    this.#lastId += 1;
    return this.#lastId;
  }

  /** The request that went out under a number. */
  sent(id: number): Request | undefined {
    return this.#sent.get(id);
  }

  /** Takes out the request that went out under a number. */
  finish(id: number): Request | undefined {
    const request = this.#sent.get(id);
    this.#sent.delete(id);
    return request;
  }

  /**
   * The connection is gone: what callers asked waits again, in order and from its first page. What the connection
   * asked on its own account is forgotten: the next one begins with the whole watch list.
   */
  disconnected(): void {
    const again = [...this.#sent.values(), ...this.#waiting].filter((request) => request.ticket !== undefined);
    this.#waiting = again.map((request) => ({ ...request, users: [], notBefore: 0 }));
    this.#sent.clear();
  }

  /** Takes out what nobody waits for any longer. */
  expire(now: number): Request[] {
    const late: Request[] = [];
    this.#waiting = this.#waiting.filter((request) => request.deadline > now || !late.push(request));
    for (const [id, request] of this.#sent) {
      if (request.deadline > now) continue;
      late.push(request);
      this.#sent.delete(id);
    }
    return late;
  }

  /** Takes out everything. */
  clear(): Request[] {
    const all = [...this.#sent.values(), ...this.#waiting];
    this.#sent.clear();
    this.#waiting = [];
    return all;
  }

  /** When something must be done next, on the monotonic clock. */
  pollTimeout(now: number): number {
    let next = Infinity;
    for (const request of this.#sent.values()) next = Math.min(next, request.deadline);
    for (const request of this.#waiting) next = Math.min(next, request.deadline);
    const first = this.#waiting[0];
    if (first !== undefined && first.notBefore > now) next = Math.min(next, first.notBefore);
    return next;
  }
}

/** How a request ended. */
export type Outcome =
  { readonly ok: true; readonly users: Presence[] } | { readonly ok: false; readonly error: HerenowError };
