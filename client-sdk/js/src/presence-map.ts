import type { Presence, PresenceChange } from "./types.js";

/** How sure a record is: sent on this connection, held from an earlier one until its time comes, or past that. */
type Sureness =
  | { readonly is: "confirmed" }
  | { readonly is: "held"; readonly until: number; readonly asOf: string; aside: Presence | undefined }
  | { readonly is: "decayed" };

interface Held {
  presence: Presence;
  sureness: Sureness;
}

interface Link {
  readonly since: number;
  readonly serverTime: number;
  readonly freshForMs: number;
}

const CONFIRMED: Sureness = { is: "confirmed" };
const DECAYED: Sureness = { is: "decayed" };

/**
 * The latest known presence of every watched user: clauses SDK-P1 to SDK-P9 of protocol/vectors. It never goes back
 * to an older record while it is sure of a newer one, and it says `unknown` rather than show what nobody has
 * confirmed for too long. Times are milliseconds of a clock that only measures differences.
 */
export class PresenceMap {
  readonly #watched = new Set<string>();
  readonly #held = new Map<string, Held>();
  #link: Link | undefined;
  #lastHeard = 0;
  /** No record decays before this. */
  #nextDecay = Infinity;

  /** Who is watched, whether or not anything is known of them. */
  get watched(): ReadonlySet<string> {
    return this.#watched;
  }

  /** What is known of a user. */
  get(userId: string): Presence | undefined {
    return this.#held.get(userId)?.presence;
  }

  /** Everything known. */
  values(): Presence[] {
    return [...this.#held.values()].map((held) => held.presence);
  }

  watch(users: Iterable<string>): void {
    for (const user of users) this.#watched.add(user);
  }

  unwatch(users: Iterable<string>): void {
    for (const user of users) {
      this.#watched.delete(user);
      this.#held.delete(user);
    }
  }

  /** A connection is up. `serverTime` is the gateway's wall clock, in milliseconds since 1970. */
  connected(now: number, serverTime: number, freshForMs: number): void {
    this.#link = { since: now, serverTime, freshForMs };
    this.heard(now);
  }

  /** A byte came. */
  heard(now: number): void {
    this.#lastHeard = now;
  }

  /** The connection is gone: nothing is confirmed any longer, and what is not confirmed again decays. */
  disconnected(): void {
    const link = this.#link;
    if (link === undefined) return;
    this.#link = undefined;
    const until = this.#lastHeard + link.freshForMs;
    const asOf = new Date(link.serverTime + this.#lastHeard - link.since).toISOString();
    for (const held of this.#held.values()) {
      if (held.sureness.is === "held") held.sureness.aside = undefined;
      else if (held.sureness.is === "confirmed") held.sureness = { is: "held", until, asOf, aside: undefined };
    }
    this.#nextDecay = Math.min(this.#nextDecay, until);
  }

  /** Takes the records of one frame, in their order. Returns what a person would see change, once a user. */
  frame(records: readonly Presence[]): PresenceChange[] {
    if (this.#link === undefined) return [];
    const before = new Map<string, Presence | undefined>();
    for (const record of records) {
      if (!this.#watched.has(record.userId)) continue;
      if (!before.has(record.userId)) before.set(record.userId, this.get(record.userId));
      this.#take(record);
    }
    return this.#changes(before);
  }

  /** When {@link advance} is due; `Infinity` when never. */
  pollTimeout(): number {
    return this.#nextDecay;
  }

  /** Lets everything decay that is due. Returns what a person would see change. */
  advance(now: number): PresenceChange[] {
    if (now < this.#nextDecay) return [];
    this.#nextDecay = Infinity;
    const before = new Map<string, Presence | undefined>();
    for (const [user, held] of this.#held) {
      if (held.sureness.is !== "held") continue;
      if (held.sureness.until > now) {
        this.#nextDecay = Math.min(this.#nextDecay, held.sureness.until);
        continue;
      }
      before.set(user, held.presence);
      this.#held.set(user, decay(held.presence, held.sureness));
    }
    return this.#changes(before);
  }

  #take(record: Presence): void {
    const held = this.#held.get(record.userId);
    if (held === undefined || record.version >= held.presence.version) {
      this.#held.set(record.userId, { presence: record, sureness: CONFIRMED });
      return;
    }
    if (record.status === "unknown") {
      doubt(held, record);
    } else if (held.sureness.is === "decayed") {
      this.#held.set(record.userId, { presence: record, sureness: CONFIRMED });
    } else if (held.sureness.is === "confirmed") {
      return;
    } else if (held.sureness.aside === undefined || record.version >= held.sureness.aside.version) {
      held.sureness.aside = record;
    }
  }

  #changes(before: ReadonlyMap<string, Presence | undefined>): PresenceChange[] {
    const changes: PresenceChange[] = [];
    for (const [user, previous] of before) {
      const presence = this.get(user);
      if (presence !== undefined && !looksLike(previous, presence)) changes.push({ presence, previous });
    }
    return changes;
  }
}

function decay(presence: Presence, sureness: Extract<Sureness, { is: "held" }>): Held {
  if (sureness.aside !== undefined) return { presence: sureness.aside, sureness: CONFIRMED };
  return { presence: unknown(presence, presence.asOf ?? sureness.asOf), sureness: DECAYED };
}

/** The gateway cannot vouch for a record any longer, whatever it was. */
function doubt(held: Held, { asOf }: Presence): void {
  const lastKnown = held.sureness.is === "held" ? held.sureness.asOf : undefined;
  held.presence = unknown(held.presence, asOf ?? held.presence.asOf ?? lastKnown);
  if (held.sureness.is === "held") held.sureness.aside = undefined;
}

/** What stays true of a record that is no longer known; one that is unknown already stays as it is. */
function unknown(presence: Presence, asOf: string | undefined): Presence {
  if (presence.status === "unknown") return presence;
  const { userId, lastUpdated, version } = presence;
  return { userId, status: "unknown", lastUpdated, version, ...(asOf !== undefined && { asOf }) };
}

/** Whether a person would see no difference: every field counts but the version. */
function looksLike(a: Presence | undefined, b: Presence): boolean {
  return (
    a !== undefined &&
    a.status === b.status &&
    a.lastUpdated === b.lastUpdated &&
    a.text === b.text &&
    a.emoji === b.emoji &&
    a.asOf === b.asOf &&
    a.reachable === b.reachable &&
    a.invisible === b.invisible &&
    a.devices?.join() === b.devices?.join()
  );
}
