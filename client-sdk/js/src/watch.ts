import type { Presence, PresenceChange } from "./types.js";

/** Told of a presence: `previous` is `undefined` the first time. */
export type PresenceListener = (presence: Presence, previous: Presence | undefined) => void;

/**
 * What {@link HerenowClient.watch} returns: closes the watch, and gives its changes as an async iterator. The iterator
 * holds the latest change per user: one that is read slowly misses values in between, never the last.
 */
export class Watch implements AsyncIterable<PresenceChange> {
  /** Whom it watches. */
  readonly users: ReadonlySet<string>;
  readonly #users: Set<string>;
  readonly #listener: PresenceListener | undefined;
  readonly #onClose: (watch: Watch) => void;
  readonly #pending = new Map<string, PresenceChange>();
  #wake: (() => void) | undefined;
  #iterated = false;
  #closed = false;

  /** @internal */
  constructor(users: Set<string>, listener: PresenceListener | undefined, onClose: (watch: Watch) => void) {
    this.users = this.#users = users;
    this.#listener = listener;
    this.#onClose = onClose;
  }

  /** Ends the watch; iterators end too. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#onClose(this);
    this.#wake?.();
  }

  /** @internal */
  forget(users: Iterable<string>): void {
    for (const user of users) {
      this.#users.delete(user);
      this.#pending.delete(user);
    }
  }

  /** @internal */
  tell(change: PresenceChange): void {
    if (this.#closed) return;
    this.#listener?.(change.presence, change.previous);
    if (this.#listener !== undefined && !this.#iterated) return;
    const user = change.presence.userId;
    const pending = this.#pending.get(user);
    this.#pending.set(user, pending === undefined ? change : { presence: change.presence, previous: pending.previous });
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<PresenceChange, void, void> {
    this.#iterated = true;
    try {
      while (!this.#closed) {
        const next = this.#pending.entries().next();
        if (next.done) {
          await new Promise<void>((resolve) => (this.#wake = resolve));
        } else {
          this.#pending.delete(next.value[0]);
          yield next.value[1];
        }
      }
    } finally {
      this.close();
    }
  }
}
