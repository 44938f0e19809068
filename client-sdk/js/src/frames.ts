import { failure } from "./errors.js";
import { USER_ID_BYTES, USERS_BYTES_PER_FRAME, USERS_PER_FRAME } from "./limits.js";
import type { Activity, DeviceKind, ManualStatus, Presence, Status } from "./types.js";

/** The subprotocol that carries the frames. */
export const SUBPROTOCOL = "herenow.v1.json";
/** What stands before a token in a second subprotocol entry. */
export const BEARER_PREFIX = "bearer.";

/** A frame to the gateway. */
export type ClientFrame =
  | { type: "auth"; token: string; device?: string; kind?: DeviceKind; activity?: Activity; id?: number }
  | { type: "heartbeat"; activity?: Activity; id?: number }
  | { type: "watch" | "unwatch" | "query"; id: number; users: string[] }
  | { type: "status"; id: number; status: ManualStatus; text?: string; emoji?: string; expiresAt?: string }
  | { type: "bye" };

/** What a client is told when its session opens. */
export interface Welcome {
  readonly type: "welcome";
  readonly session: string;
  readonly userId: string;
  readonly heartbeatIntervalMs: number;
  readonly heartbeatTimeoutMs: number;
  readonly idleAfterMs: number;
  readonly freshForMs: number;
  readonly serverTime: string;
}

/** A frame from the gateway. */
export type ServerFrame =
  | Welcome
  | { type: "snapshot"; id: number; users: Presence[]; complete: boolean }
  | { type: "presence"; users: Presence[] }
  | { type: "ack"; id: number }
  | { type: "error"; id?: number; code: string; message: string; remediation: string; retryAfterMs?: number }
  | { type: "token_expiring"; expiresAt: string }
  | { type: "reconnect"; afterMs: number; withinMs: number; reason: string };

/** The fields of a frame as callers have them: absent ones may be `undefined`, times may be dates. */
type FieldsOf<T extends ClientFrame["type"]> = {
  [K in keyof Omit<Extract<ClientFrame, { type: T }>, "type">]:
    Extract<ClientFrame, { type: T }>[K] | (K extends "expiresAt" ? Date : never) | undefined;
};

/**
 * Makes a frame: `type` first, absent fields left out, times in UTC with milliseconds.
 * @throws HerenowError `invalid_value` when a time is none.
 */
export function clientFrame<T extends ClientFrame["type"]>(
  type: T,
  fields: Partial<FieldsOf<T>>,
): Extract<ClientFrame, { type: T }> {
  const frame: Fields = { type };
  for (const [name, value] of Object.entries(fields)) {
    if (value !== undefined) frame[name] = name === "expiresAt" ? utc(value as Date | string) : value;
  }
  return frame as Extract<ClientFrame, { type: T }>;
}

function utc(time: Date | string): string {
  const date = new Date(time);
  if (Number.isNaN(date.getTime())) throw failure.invalidValue("`expiresAt` is no time.");
  return date.toISOString();
}

type Fields = Record<string, unknown>;

const isObject = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const isText = (value: unknown): value is string => typeof value === "string";
const isCount = (value: unknown): value is number =>
  typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
const isSpan = (value: unknown): value is number => isCount(value) && value > 0;
const isTime = (value: unknown): value is string => isText(value) && !Number.isNaN(Date.parse(value));
const isVersion = (value: unknown): value is string => isText(value) && /^[0-9a-f]{28}$/.test(value);

const STATUSES: ReadonlySet<unknown> = new Set<Status>(["online", "idle", "dnd", "offline", "unknown"]);
const KINDS: ReadonlySet<unknown> = new Set<DeviceKind>(["web", "mobile", "desktop", "server"]);

/** Reads a record. What this version does not understand is `undefined`. */
function readPresence(value: unknown): Presence | undefined {
  if (!isObject(value)) return undefined;
  const { userId, status, lastUpdated = null, version, text, emoji, asOf } = value;
  if (!isText(userId) || !STATUSES.has(status) || !isVersion(version)) return undefined;
  if (lastUpdated !== null && !isTime(lastUpdated)) return undefined;
  const devices = Array.isArray(value.devices) ? (value.devices.filter((kind) => KINDS.has(kind)) as DeviceKind[]) : [];
  return {
    userId,
    status: status as Status,
    lastUpdated,
    version,
    ...(isText(text) && { text }),
    ...(isText(emoji) && { emoji }),
    ...(value.reachable === true && { reachable: true }),
    ...(devices.length > 0 && { devices }),
    ...(value.invisible === true && { invisible: true }),
    ...(isTime(asOf) && { asOf }),
  };
}

function readUsers(value: unknown): Presence[] | undefined {
  return Array.isArray(value) ? value.map(readPresence).filter((record) => record !== undefined) : undefined;
}

type Reader = (fields: Fields) => ServerFrame | undefined;

const READERS: Record<ServerFrame["type"], Reader> = {
  welcome: ({ session, userId, heartbeatIntervalMs, heartbeatTimeoutMs, idleAfterMs, freshForMs, serverTime }) =>
    isText(session) &&
    isText(userId) &&
    isSpan(heartbeatIntervalMs) &&
    isSpan(heartbeatTimeoutMs) &&
    isCount(idleAfterMs) &&
    isCount(freshForMs) &&
    isTime(serverTime)
      ? {
          type: "welcome",
          session,
          userId,
          heartbeatIntervalMs,
          heartbeatTimeoutMs,
          idleAfterMs,
          freshForMs,
          serverTime,
        }
      : undefined,
  snapshot: ({ id, users: list, complete }) => {
    const users = readUsers(list);
    return isCount(id) && users !== undefined && typeof complete === "boolean"
      ? { type: "snapshot", id, users, complete }
      : undefined;
  },
  presence: ({ users: list }) => {
    const users = readUsers(list);
    return users && { type: "presence", users };
  },
  ack: ({ id }) => (isCount(id) ? { type: "ack", id } : undefined),
  error: ({ id, code, message, remediation, retryAfterMs }) =>
    isText(code) && isText(message) && isText(remediation) && (id === undefined || isCount(id))
      ? {
          type: "error",
          ...(id !== undefined && { id }),
          code,
          message,
          remediation,
          ...(isCount(retryAfterMs) && { retryAfterMs }),
        }
      : undefined,
  token_expiring: ({ expiresAt }) => (isTime(expiresAt) ? { type: "token_expiring", expiresAt } : undefined),
  reconnect: ({ afterMs, withinMs, reason }) =>
    isCount(afterMs) && isCount(withinMs) && isText(reason)
      ? { type: "reconnect", afterMs, withinMs, reason }
      : undefined,
};

/** Reads a frame. What this version does not know, or cannot read, is `undefined`: it is ignored. */
export function parseServerFrame(text: string): ServerFrame | undefined {
  let frame: unknown;
  try {
    frame = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isObject(frame) || !isText(frame.type) || !Object.hasOwn(READERS, frame.type)) return undefined;
  return READERS[frame.type as ServerFrame["type"]](frame);
}

const utf8 = new TextEncoder();

/**
 * Checks a user id.
 * @throws HerenowError `invalid_user_id`.
 */
export function checkUserId(userId: string): void {
  if (!isText(userId) || userId === "") throw failure.invalidUserId("A user id is a string of at least 1 byte.");
  const bytes = utf8.encode(userId).length;
  if (bytes > USER_ID_BYTES)
    throw failure.invalidUserId(`A user id has at most ${USER_ID_BYTES} bytes, this one has ${bytes}.`);
  if (/\p{Cc}/u.test(userId)) throw failure.invalidUserId("A user id has no control characters.");
}

/** Cuts a list of users into pieces that each fit a frame, by count and by bytes. */
export function pages(users: Iterable<string>): string[][] {
  const all: string[][] = [];
  let page: string[] = [];
  let bytes = 0;
  for (const user of users) {
    const size = utf8.encode(JSON.stringify(user)).length + 1;
    if (page.length === USERS_PER_FRAME || bytes + size > USERS_BYTES_PER_FRAME) {
      all.push(page);
      page = [];
      bytes = 0;
    }
    page.push(user);
    bytes += size;
  }
  if (page.length > 0) all.push(page);
  return all;
}
