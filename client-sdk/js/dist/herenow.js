// @herenow/client. Built from client-sdk/js/src by `npm run build`; edit that.

// src/activity-monitor.ts
var DEFAULT_IDLE_AFTER_MS = 5 * 6e4;
var HIDDEN_SETTLE_MS = 150;
var SIGNS = ["pointerdown", "pointermove", "keydown", "wheel", "touchstart"];
var ActivityMonitor = class {
  #tell;
  #idleAfterMs;
  #activity;
  #touchedAt = performance.now();
  #hiddenAt = -Infinity;
  #timer;
  /** Begins. `client` is told of every change, and of the present activity now. */
  constructor(client, options = {}) {
    this.#tell = (activity) => client.setActivity(activity);
    this.#idleAfterMs = options.idleAfterMs ?? DEFAULT_IDLE_AFTER_MS;
    for (const sign of SIGNS) globalThis.addEventListener(sign, this.#touched, { passive: true, capture: true });
    document.addEventListener("visibilitychange", this.#turned);
    this.#check();
  }
  /** What the person does. */
  get activity() {
    return this.#activity ?? "active";
  }
  /** Ends. */
  stop() {
    for (const sign of SIGNS) globalThis.removeEventListener(sign, this.#touched, { capture: true });
    document.removeEventListener("visibilitychange", this.#turned);
    clearTimeout(this.#timer);
  }
  #turned = () => {
    if (hidden()) this.#hiddenAt = performance.now();
    else this.#touchedAt = performance.now();
    this.#check();
  };
  // A sign of somebody active only notes the time: the timer looks how long ago it was. Moving a pointer costs no timers.
  #touched = () => {
    this.#touchedAt = performance.now();
    if (this.#activity !== "active") this.#check();
  };
  #check = () => {
    clearTimeout(this.#timer);
    const idleAt = hidden() ? this.#hiddenAt + HIDDEN_SETTLE_MS : this.#touchedAt + this.#idleAfterMs;
    const left = idleAt - performance.now();
    if (left <= 0) this.#become("idle");
    else if (!hidden()) this.#become("active");
    if (left > 0) this.#timer = setTimeout(this.#check, Math.ceil(left));
  };
  #become(activity) {
    if (activity === this.#activity) return;
    this.#activity = activity;
    this.#tell(activity);
  }
};
function hidden() {
  return document.visibilityState === "hidden";
}

// src/errors.ts
var HerenowError = class extends Error {
  name = "HerenowError";
  /** A stable word, as in docs/CODES.md, or one of this client's own. */
  code;
  /** What the caller can do. */
  remediation;
  /** When trying again makes sense, in milliseconds. */
  retryAfterMs;
  constructor(code, message, remediation, options = {}) {
    super(message, "cause" in options ? { cause: options.cause } : void 0);
    this.code = code;
    this.remediation = remediation;
    this.retryAfterMs = options.retryAfterMs;
  }
};
var failure = {
  noWebSocket: () => new HerenowError(
    "no_websocket",
    "This runtime has no global WebSocket.",
    "Pass one as the `WebSocket` option, for example the class of the npm package `ws`."
  ),
  invalidOption: (message) => new HerenowError("invalid_option", message, "See the options of HerenowClient."),
  invalidUserId: (message) => new HerenowError("invalid_user_id", message, "User ids have 1 to 128 bytes and no control characters."),
  invalidValue: (message) => new HerenowError("invalid_value", message, "Keep the value within the range the message names."),
  tokenFailed: (cause) => new HerenowError(
    "token_failed",
    `The token callback failed: ${describe(cause)}`,
    "Make `token` return a fresh token; the client tries again by itself.",
    { cause }
  ),
  connectFailed: (detail, retryAfterMs) => new HerenowError(
    "connect_failed",
    `The connection could not be opened${detail}.`,
    "Check the URL, the token and the page's origin; the client tries again by itself.",
    { retryAfterMs }
  ),
  connectionLost: (detail) => new HerenowError(
    "connection_lost",
    `The connection was lost${detail}.`,
    "Nothing: the client comes back by itself."
  ),
  heartbeatTimeout: () => new HerenowError(
    "heartbeat_timeout",
    "Nothing was heard for the heartbeat timeout.",
    "Nothing: the client comes back by itself."
  ),
  moving: (reason) => new HerenowError(
    "reconnect",
    `The gateway asked this client to move: ${reason}.`,
    "Nothing: the client comes back by itself."
  ),
  requestTimeout: () => new HerenowError("timeout", "No answer came in time.", "Try again; see `client.state` for the connection."),
  tooManyRequests: (limit) => new HerenowError(
    "too_many_requests",
    `${limit} requests are waiting for an answer.`,
    "Wait for earlier requests to be answered."
  ),
  closed: () => new HerenowError("closed", "The client is closed.", "Call `connect()` again.")
};
function describe(cause) {
  return cause instanceof Error ? cause.message : String(cause);
}

// src/limits.ts
var USER_ID_BYTES = 128;
var USERS_PER_FRAME = 1e3;
var USERS_BYTES_PER_FRAME = 60 * 1024;
var REQUESTS_IN_FLIGHT = 8;
var REQUESTS_WAITING = 1e3;
var REQUEST_TIMEOUT_MS = 1e4;
var CONNECT_TIMEOUT_MS = 1e4;
var WATCH_RETRY_MS = 1e3;
var WATCH_RETRY_CAP_MS = 5e3;
var TOKEN_TIMEOUT_MS = 3e4;
var BACKOFF_BASE_MS = 500;
var ACTIVITY_WINDOW_MS = 250;
var BACKOFF_CAP_MS = 3e4;
var TOLD_SHORTEST_MS = 1e3;
var TOLD_LONGEST_MS = 3e5;
var REFUSAL_BYTES = 16 * 1024;
var STATUS_TEXT_BYTES = 256;
var STATUS_EMOJI_BYTES = 64;

// src/frames.ts
var SUBPROTOCOL = "herenow.v1.json";
var BEARER_PREFIX = "bearer.";
function clientFrame(type, fields) {
  const frame = { type };
  for (const [name, value] of Object.entries(fields)) {
    if (value !== void 0) frame[name] = name === "expiresAt" ? utc(value) : value;
  }
  return frame;
}
function utc(time) {
  const date = new Date(time);
  if (Number.isNaN(date.getTime())) throw failure.invalidValue("`expiresAt` is no time.");
  return date.toISOString();
}
var isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
var isText = (value) => typeof value === "string";
var isCount = (value) => typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
var isSpan = (value) => isCount(value) && value > 0;
var isTime = (value) => isText(value) && !Number.isNaN(Date.parse(value));
var isVersion = (value) => isText(value) && /^[0-9a-f]{28}$/.test(value);
var STATUSES = /* @__PURE__ */ new Set(["online", "idle", "dnd", "offline", "unknown"]);
var KINDS = /* @__PURE__ */ new Set(["web", "mobile", "desktop", "server"]);
function readPresence(value) {
  if (!isObject(value)) return void 0;
  const { userId, status, lastUpdated = null, version, text, emoji, asOf } = value;
  if (!isText(userId) || !STATUSES.has(status) || !isVersion(version)) return void 0;
  if (lastUpdated !== null && !isTime(lastUpdated)) return void 0;
  const devices = Array.isArray(value.devices) ? value.devices.filter((kind) => KINDS.has(kind)) : [];
  return {
    userId,
    status,
    lastUpdated,
    version,
    ...isText(text) && { text },
    ...isText(emoji) && { emoji },
    ...value.reachable === true && { reachable: true },
    ...devices.length > 0 && { devices },
    ...value.invisible === true && { invisible: true },
    ...isTime(asOf) && { asOf }
  };
}
function readUsers(value) {
  return Array.isArray(value) ? value.map(readPresence).filter((record) => record !== void 0) : void 0;
}
var READERS = {
  welcome: ({ session, userId, heartbeatIntervalMs, heartbeatTimeoutMs, idleAfterMs, freshForMs, serverTime }) => isText(session) && isText(userId) && isSpan(heartbeatIntervalMs) && isSpan(heartbeatTimeoutMs) && isCount(idleAfterMs) && isCount(freshForMs) && isTime(serverTime) ? {
    type: "welcome",
    session,
    userId,
    heartbeatIntervalMs,
    heartbeatTimeoutMs,
    idleAfterMs,
    freshForMs,
    serverTime
  } : void 0,
  snapshot: ({ id, users: list, complete }) => {
    const users = readUsers(list);
    return isCount(id) && users !== void 0 && typeof complete === "boolean" ? { type: "snapshot", id, users, complete } : void 0;
  },
  presence: ({ users: list }) => {
    const users = readUsers(list);
    return users && { type: "presence", users };
  },
  ack: ({ id }) => isCount(id) ? { type: "ack", id } : void 0,
  error: ({ id, code, message, remediation, retryAfterMs }) => isText(code) && isText(message) && isText(remediation) && (id === void 0 || isCount(id)) ? {
    type: "error",
    ...id !== void 0 && { id },
    code,
    message,
    remediation,
    ...isCount(retryAfterMs) && { retryAfterMs }
  } : void 0,
  token_expiring: ({ expiresAt }) => isTime(expiresAt) ? { type: "token_expiring", expiresAt } : void 0,
  reconnect: ({ afterMs, withinMs, reason }) => isCount(afterMs) && isCount(withinMs) && isText(reason) ? { type: "reconnect", afterMs, withinMs, reason } : void 0
};
function parseServerFrame(text) {
  let frame;
  try {
    frame = JSON.parse(text);
  } catch {
    return void 0;
  }
  if (!isObject(frame) || !isText(frame.type) || !Object.hasOwn(READERS, frame.type)) return void 0;
  return READERS[frame.type](frame);
}
var utf8 = new TextEncoder();
function checkUserId(userId) {
  if (!isText(userId) || userId === "") throw failure.invalidUserId("A user id is a string of at least 1 byte.");
  const bytes = utf8.encode(userId).length;
  if (bytes > USER_ID_BYTES)
    throw failure.invalidUserId(`A user id has at most ${USER_ID_BYTES} bytes, this one has ${bytes}.`);
  if (/\p{Cc}/u.test(userId)) throw failure.invalidUserId("A user id has no control characters.");
}
function pages(users) {
  const all = [];
  let page = [];
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

// src/backoff.ts
function backoffDelay(attempt, random) {
  const ceiling = Math.min(BACKOFF_CAP_MS, BACKOFF_BASE_MS * 2 ** Math.min(attempt, 30));
  return Math.floor(random * ceiling);
}
function attemptAfter(attempt, lastedMs) {
  return lastedMs >= BACKOFF_CAP_MS ? 0 : attempt;
}
function refusalDelay(toldMs, random) {
  const told = Math.min(Math.max(toldMs, TOLD_SHORTEST_MS), TOLD_LONGEST_MS);
  return told + Math.floor(random * BACKOFF_BASE_MS);
}
function moveDelay(afterMs, withinMs, random) {
  return afterMs + Math.floor(random * withinMs);
}

// src/codes.ts
var COMES_BACK = "Nothing: the client comes back by itself.";
var FACTS = /* @__PURE__ */ new Map([
  [1e3, { code: "bye", message: "The session was ended.", remediation: "Call `connect()` to begin another." }],
  [
    1002,
    {
      code: "protocol_error",
      message: "A frame broke the WebSocket protocol.",
      remediation: "Look for a proxy that changes frames."
    }
  ],
  [1003, { code: "binary_frame", message: "A binary frame was sent.", remediation: "Send text frames only." }],
  [
    1007,
    { code: "invalid_utf8", message: "A frame was not UTF-8.", remediation: "Look for a proxy that changes frames." }
  ],
  [
    1008,
    {
      code: "too_many_fragments",
      message: "A frame came in too many fragments.",
      remediation: "Look for a proxy that splits frames."
    }
  ],
  [1009, { code: "frame_too_big", message: "A frame was over 64 KiB.", remediation: "Name fewer users a call." }],
  [4e3, { code: "shutdown", message: "The gateway shuts down.", remediation: COMES_BACK }],
  [
    4001,
    {
      code: "heartbeat_timeout",
      message: "The gateway heard nothing for the heartbeat timeout.",
      remediation: COMES_BACK
    }
  ],
  [4002, { code: "slow_consumer", message: "This client did not read what it was sent.", remediation: COMES_BACK }],
  [4003, { code: "gateway_full", message: "The gateway holds as many sessions as it may.", remediation: COMES_BACK }],
  [
    4004,
    {
      code: "rate_limited",
      message: "This client sent more frames than the gateway accepts.",
      remediation: "Call less often; the client comes back by itself."
    }
  ],
  [
    4401,
    {
      code: "token_expired",
      message: "The token ran out.",
      remediation: "Make `token` return a fresh token; the client comes back by itself."
    }
  ],
  [4408, { code: "auth_timeout", message: "No token came in time.", remediation: COMES_BACK }],
  [
    4501,
    {
      code: "unauthorized",
      message: "The token is not accepted.",
      remediation: "Get a token signed for this service, then call `connect()`."
    }
  ],
  [
    4502,
    { code: "user_changed", message: "The new token names another user.", remediation: "Use one client per user." }
  ],
  [
    4503,
    {
      code: "user_sessions",
      message: "The user has as many sessions as it may.",
      remediation: "Close other sessions of the user, then call `connect()`."
    }
  ]
]);
function closeDuty(code) {
  if (code === 1e3) return "done";
  if (code === 4401) return "renew_token";
  if ([1002, 1003, 1007, 1008, 1009].includes(code) || code >= 4500 && code <= 4999) return "stay";
  return "reconnect";
}
function closeFacts(code) {
  return FACTS.get(code);
}

// src/heartbeat.ts
var Heartbeat = class {
  #intervalMs = Infinity;
  #timeoutMs = Infinity;
  #lastHeard = 0;
  #next = Infinity;
  #activity;
  /** What the gateway was last told. */
  #told;
  #toldAt = -Infinity;
  #activityDue = Infinity;
  /** What the person does. */
  get activity() {
    return this.#activity;
  }
  /** What the person does now. It is said at once, or when the last change was said a moment ago, a moment later. */
  setActivity(activity) {
    this.#activity = activity;
    this.#activityDue = activity === this.#told ? Infinity : this.#toldAt + ACTIVITY_WINDOW_MS;
  }
  /** The opening handshake goes out, and says what the person does; what changes meanwhile is said after it. */
  opening() {
    this.#told = this.#activity;
    this.#toldAt = -Infinity;
    this.#activityDue = Infinity;
  }
  /** The connection is open. */
  opened(now, welcome) {
    this.#intervalMs = welcome.heartbeatIntervalMs;
    this.#timeoutMs = welcome.heartbeatTimeoutMs;
    this.#next = now + this.#intervalMs;
    this.heard(now);
  }
  /** Something came from the gateway. */
  heard(now) {
    this.#lastHeard = now;
  }
  /** Whether nothing was heard for too long. */
  isDead(now) {
    return now >= this.#lastHeard + this.#timeoutMs;
  }
  /** The heartbeat that is due, if one is. It asks for an answer when nothing was heard for an interval. */
  take(now, nextId) {
    if (now < Math.min(this.#next, this.#activityDue)) return void 0;
    if (this.#activity !== this.#told) this.#toldAt = now;
    this.#told = this.#activity;
    this.#activityDue = Infinity;
    this.#next = now + this.#intervalMs;
    const quiet = now >= this.#lastHeard + this.#intervalMs;
    return clientFrame("heartbeat", { activity: this.#activity, id: quiet ? nextId() : void 0 });
  }
  /** When a heartbeat is due or the gateway is dead, on the monotonic clock. */
  pollTimeout() {
    return Math.min(this.#lastHeard + this.#timeoutMs, this.#next, this.#activityDue);
  }
};

// src/presence-map.ts
var CONFIRMED = { is: "confirmed" };
var DECAYED = { is: "decayed" };
var PresenceMap = class {
  #watched = /* @__PURE__ */ new Set();
  #held = /* @__PURE__ */ new Map();
  #link;
  #lastHeard = 0;
  /** No record decays before this. */
  #nextDecay = Infinity;
  /** Who is watched, whether or not anything is known of them. */
  get watched() {
    return this.#watched;
  }
  /** What is known of a user. */
  get(userId) {
    return this.#held.get(userId)?.presence;
  }
  /** Everything known. */
  values() {
    return [...this.#held.values()].map((held) => held.presence);
  }
  watch(users) {
    for (const user of users) this.#watched.add(user);
  }
  unwatch(users) {
    for (const user of users) {
      this.#watched.delete(user);
      this.#held.delete(user);
    }
  }
  /** A connection is up. `serverTime` is the gateway's wall clock, in milliseconds since 1970. */
  connected(now, serverTime, freshForMs) {
    this.#link = { since: now, serverTime, freshForMs };
    this.heard(now);
  }
  /** A byte came. */
  heard(now) {
    this.#lastHeard = now;
  }
  /** The connection is gone: nothing is confirmed any longer, and what is not confirmed again decays. */
  disconnected() {
    const link = this.#link;
    if (link === void 0) return;
    this.#link = void 0;
    const until = this.#lastHeard + link.freshForMs;
    const asOf = new Date(link.serverTime + this.#lastHeard - link.since).toISOString();
    for (const held of this.#held.values()) {
      if (held.sureness.is === "held") held.sureness.aside = void 0;
      else if (held.sureness.is === "confirmed") held.sureness = { is: "held", until, asOf, aside: void 0 };
    }
    this.#nextDecay = Math.min(this.#nextDecay, until);
  }
  /** Takes the records of one frame, in their order. Returns what a person would see change, once a user. */
  frame(records) {
    if (this.#link === void 0) return [];
    const before = /* @__PURE__ */ new Map();
    for (const record of records) {
      if (!this.#watched.has(record.userId)) continue;
      if (!before.has(record.userId)) before.set(record.userId, this.get(record.userId));
      this.#take(record);
    }
    return this.#changes(before);
  }
  /** When {@link advance} is due; `Infinity` when never. */
  pollTimeout() {
    return this.#nextDecay;
  }
  /** Lets everything decay that is due. Returns what a person would see change. */
  advance(now) {
    if (now < this.#nextDecay) return [];
    this.#nextDecay = Infinity;
    const before = /* @__PURE__ */ new Map();
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
  #take(record) {
    const held = this.#held.get(record.userId);
    if (held === void 0 || record.version >= held.presence.version) {
      this.#held.set(record.userId, { presence: record, sureness: CONFIRMED });
      return;
    }
    if (record.status === "unknown") {
      doubt(held, record);
    } else if (held.sureness.is === "decayed") {
      this.#held.set(record.userId, { presence: record, sureness: CONFIRMED });
    } else if (held.sureness.is === "confirmed") {
      return;
    } else if (held.sureness.aside === void 0 || record.version >= held.sureness.aside.version) {
      held.sureness.aside = record;
    }
  }
  #changes(before) {
    const changes = [];
    for (const [user, previous] of before) {
      const presence = this.get(user);
      if (presence !== void 0 && !looksLike(previous, presence)) changes.push({ presence, previous });
    }
    return changes;
  }
};
function decay(presence, sureness) {
  if (sureness.aside !== void 0) return { presence: sureness.aside, sureness: CONFIRMED };
  return { presence: unknown(presence, presence.asOf ?? sureness.asOf), sureness: DECAYED };
}
function doubt(held, { asOf }) {
  const lastKnown = held.sureness.is === "held" ? held.sureness.asOf : void 0;
  held.presence = unknown(held.presence, asOf ?? held.presence.asOf ?? lastKnown);
  if (held.sureness.is === "held") held.sureness.aside = void 0;
}
function unknown(presence, asOf) {
  if (presence.status === "unknown") return presence;
  const { userId, lastUpdated, version } = presence;
  return { userId, status: "unknown", lastUpdated, version, ...asOf !== void 0 && { asOf } };
}
function looksLike(a, b) {
  return a !== void 0 && a.status === b.status && a.lastUpdated === b.lastUpdated && a.text === b.text && a.emoji === b.emoji && a.asOf === b.asOf && a.reachable === b.reachable && a.invisible === b.invisible && a.devices?.join() === b.devices?.join();
}

// src/requests.ts
var Requests = class {
  #waiting = [];
  #sent = /* @__PURE__ */ new Map();
  #lastId = 0;
  /** How many wait, sent or not. */
  get size() {
    return this.#waiting.length + this.#sent.size;
  }
  /** Adds at the end. */
  push(request) {
    this.#waiting.push(request);
  }
  /** The frames that may go now. */
  take(now) {
    const frames = [];
    while (this.#sent.size < REQUESTS_IN_FLIGHT) {
      const next = this.#waiting[0];
      if (next === void 0 || next.notBefore > now) break;
      this.#waiting.shift();
      const id = this.nextId();
      this.#sent.set(id, next);
      frames.push({ ...next.body, id });
    }
    return frames;
  }
  /** A number no other frame of this connection has. */
  nextId() {
    this.#lastId += 1;
    return this.#lastId;
  }
  /** The request that went out under a number. */
  sent(id) {
    return this.#sent.get(id);
  }
  /** Takes out the request that went out under a number. */
  finish(id) {
    const request = this.#sent.get(id);
    this.#sent.delete(id);
    return request;
  }
  /**
   * The connection is gone: what callers asked waits again, in order and from its first page. What the connection
   * asked on its own account is forgotten: the next one begins with the whole watch list.
   */
  disconnected() {
    const again = [...this.#sent.values(), ...this.#waiting].filter((request) => request.ticket !== void 0);
    this.#waiting = again.map((request) => ({ ...request, users: [], notBefore: 0 }));
    this.#sent.clear();
  }
  /** Takes out what nobody waits for any longer. */
  expire(now) {
    const late = [];
    this.#waiting = this.#waiting.filter((request) => request.deadline > now || !late.push(request));
    for (const [id, request] of this.#sent) {
      if (request.deadline > now) continue;
      late.push(request);
      this.#sent.delete(id);
    }
    return late;
  }
  /** Takes out everything. */
  clear() {
    const all = [...this.#sent.values(), ...this.#waiting];
    this.#sent.clear();
    this.#waiting = [];
    return all;
  }
  /** When something must be done next, on the monotonic clock. */
  pollTimeout(now) {
    let next = Infinity;
    for (const request of this.#sent.values()) next = Math.min(next, request.deadline);
    for (const request of this.#waiting) next = Math.min(next, request.deadline);
    const first = this.#waiting[0];
    if (first !== void 0 && first.notBefore > now) next = Math.min(next, first.notBefore);
    return next;
  }
};

// src/machine.ts
var TOKEN_LATE = "it took too long";
var PASSING = /* @__PURE__ */ new Set(["unavailable", "too_many_requests", "overloaded"]);
var Connection = class {
  presences = new PresenceMap();
  #random;
  #requests = new Requests();
  #heartbeat = new Heartbeat();
  #out = [];
  #phase = { at: "closed" };
  #attempt = 0;
  #expired = false;
  #openedAt = 0;
  #tokenAttempt = 0;
  #move;
  /** On the way to another gateway, as this one asked: no news for the application unless it fails. */
  #moving = false;
  #tokenRetryAt = Infinity;
  #welcome;
  constructor(random) {
    this.#random = random;
  }
  /** What the last `welcome` said. */
  get welcome() {
    return this.#welcome;
  }
  /** What the person was last said to do. */
  get activity() {
    return this.#heartbeat.activity;
  }
  /** Begins. Without effect unless closed. */
  connect(now) {
    if (this.#phase.at === "closed") {
      this.#attempt = 0;
      this.#emit({ type: "state", state: "connecting" });
      this.#askToken(now);
    }
    return this.#flush();
  }
  /** Ends for good: says `bye`, so that the user is seen to leave at once. */
  close(now) {
    if (this.#phase.at === "open") this.#send(clientFrame("bye", {}));
    if (this.#phase.at !== "closed") this.#end(failure.closed(), now);
    return this.#flush();
  }
  /** The token that was asked for. */
  tokenReady(token, now) {
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
  tokenFailed(cause, now) {
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
  text(text, now) {
    if (this.#phase.at !== "opening" && this.#phase.at !== "open") return this.#flush();
    this.#heartbeat.heard(now);
    this.presences.heard(now);
    const frame = parseServerFrame(text);
    if (frame !== void 0) this.#frame(frame, now);
    return this.#flush();
  }
  /**
   * The socket is gone. Without a close frame the code is 1006. `retryAfterMs`: when a gateway that refused the
   * handshake said to come back.
   */
  closed(code, detail, now, retryAfterMs) {
    if (this.#phase.at !== "opening" && this.#phase.at !== "open") return this.#flush();
    const duty = closeDuty(code);
    const reason = this.#reasonOf(code, detail, retryAfterMs);
    this.#expired = duty === "renew_token";
    if (duty === "done" || duty === "stay") this.#end(reason, now);
    else this.#comeBack(reason, now);
    return this.#flush();
  }
  /** Adds and removes watched users; each set is news to the machine. */
  watch(add, remove, now) {
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
  request(ticket, body, now) {
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
  setActivity(activity, now) {
    this.#heartbeat.setActivity(activity);
    if (this.#phase.at === "open") this.#beat(now);
    return this.#flush();
  }
  /** The network came back: a client that waits to try again tries now. */
  wake(now) {
    if (this.#phase.at === "waiting") this.#askToken(now);
    return this.#flush();
  }
  /** When {@link handleTimeout} is due, on the monotonic clock; `Infinity` when never. */
  pollTimeout(now) {
    return Math.min(this.#phaseTimeout(), this.presences.pollTimeout(), this.#requests.pollTimeout(now));
  }
  /** Does what is due. */
  handleTimeout(now) {
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
  #phaseTimeout() {
    const phase = this.#phase;
    if (phase.at === "waiting") return phase.until;
    if (phase.at === "token" || phase.at === "opening") return phase.deadline;
    if (phase.at === "closed") return Infinity;
    return Math.min(this.#heartbeat.pollTimeout(), this.#move?.at ?? Infinity, this.#tokenRetryAt);
  }
  #openTimeout(now) {
    if (this.#heartbeat.isDead(now)) {
      this.#dropped(failure.heartbeatTimeout(), now);
    } else if (this.#move !== void 0 && now >= this.#move.at) {
      this.#moving = true;
      this.#dropped(failure.moving(this.#move.reason), now);
    } else {
      if (now >= this.#tokenRetryAt) this.#renewToken();
      this.#beat(now);
    }
  }
  #beat(now) {
    const frame = this.#heartbeat.take(now, () => this.#requests.nextId());
    if (frame !== void 0) this.#send(frame);
  }
  #renewToken() {
    this.#tokenRetryAt = Infinity;
    this.#emit({ type: "token", reason: "expiring" });
  }
  #frame(frame, now) {
    if (frame.type === "welcome") this.#opened(frame, now);
    else if (frame.type === "snapshot") this.#snapshot(frame.id, frame.users, frame.complete, now);
    else if (frame.type === "presence") this.#tell(this.presences.frame(frame.users));
    else if (frame.type === "ack") this.#answer(frame.id, now);
    else if (frame.type === "error") this.#refused(frame, now);
    else if (frame.type === "token_expiring") this.#renewToken();
    else this.#move ??= { at: now + moveDelay(frame.afterMs, frame.withinMs, this.#random()), reason: frame.reason };
  }
  #opened(welcome, now) {
    if (this.#phase.at !== "opening") return;
    this.#phase = { at: "open" };
    this.#welcome = welcome;
    this.#openedAt = now;
    this.#move = void 0;
    this.#tokenRetryAt = Infinity;
    this.#heartbeat.opened(now, welcome);
    this.presences.connected(now, Date.parse(welcome.serverTime), welcome.freshForMs);
    if (!this.#moving) this.#emit({ type: "state", state: "open" });
    this.#moving = false;
    this.#beat(now);
    for (const users of pages(this.presences.watched)) this.#ask({ type: "watch", users });
    this.#pump(now);
  }
  #snapshot(id, users, complete, now) {
    this.#tell(this.presences.frame(users));
    this.#requests.sent(id)?.users.push(...users);
    if (complete) this.#answer(id, now);
  }
  #tell(changes) {
    if (changes.length > 0) this.#emit({ type: "changes", changes });
  }
  #answer(id, now) {
    const request = this.#requests.finish(id);
    if (request?.ticket !== void 0) {
      this.#emit({ type: "answer", ticket: request.ticket, outcome: { ok: true, users: request.users } });
    }
    this.#pump(now);
  }
  #refused(frame, now) {
    const error = new HerenowError(frame.code, frame.message, frame.remediation ?? "", {
      retryAfterMs: frame.retryAfterMs
    });
    const request = frame.id === void 0 ? void 0 : this.#requests.finish(frame.id);
    if (request?.body.type === "watch" && PASSING.has(frame.code)) {
      this.#watchAgain(request.body.users, now + Math.min(frame.retryAfterMs ?? WATCH_RETRY_MS, WATCH_RETRY_CAP_MS));
    } else if (request === void 0) {
      this.#emit({ type: "error", error });
    } else {
      this.#fail(request, error);
    }
    this.#pump(now);
  }
  #watchAgain(all, notBefore) {
    const users = all.filter((user) => this.presences.watched.has(user));
    if (users.length === 0) return;
    this.#requests.push({
      body: { type: "watch", users },
      ticket: void 0,
      deadline: Infinity,
      notBefore,
      users: []
    });
  }
  #fail(request, error) {
    if (request.ticket === void 0) this.#emit({ type: "error", error });
    else this.#emit({ type: "answer", ticket: request.ticket, outcome: { ok: false, error } });
  }
  #ask(body) {
    this.#requests.push({ body, ticket: void 0, deadline: Infinity, notBefore: 0, users: [] });
  }
  #pump(now) {
    if (this.#phase.at !== "open") return;
    for (const frame of this.#requests.take(now)) this.#send(frame);
  }
  #cut(now) {
    this.presences.disconnected();
    this.#tell(this.presences.advance(now));
  }
  #dropped(reason, now) {
    this.#emit({ type: "drop" });
    this.#comeBack(reason, now);
  }
  #comeBack(reason, now) {
    this.#requests.disconnected();
    this.#cut(now);
    if (this.#phase.at === "open") this.#attempt = attemptAfter(this.#attempt, now - this.#openedAt);
    const move = this.#move;
    const told = reason.retryAfterMs;
    const random = this.#random();
    const wait = told === void 0 ? backoffDelay(this.#attempt, random) : refusalDelay(told, random);
    const until = move ? Math.max(move.at, now) : now + wait;
    if (!move) this.#attempt += 1;
    this.#move = void 0;
    const quiet = this.#moving && this.#phase.at === "open";
    this.#phase = { at: "waiting", until };
    if (quiet) return;
    this.#moving = false;
    this.#emit({ type: "state", state: "reconnecting", reason, retryInMs: until - now });
  }
  #askToken(now) {
    this.#phase = { at: "token", deadline: now + TOKEN_TIMEOUT_MS };
    this.#emit({ type: "token", reason: this.#expired ? "expired" : "connect" });
  }
  #end(reason, now) {
    if (this.#phase.at === "opening" || this.#phase.at === "open") this.#emit({ type: "drop" });
    this.#cut(now);
    this.#phase = { at: "closed" };
    this.#move = void 0;
    this.#moving = false;
    for (const request of this.#requests.clear()) if (request.ticket !== void 0) this.#fail(request, reason);
    this.#emit({ type: "state", state: "closed", reason });
  }
  #reasonOf(code, detail, retryAfterMs) {
    const facts = closeFacts(code);
    if (facts !== void 0) return new HerenowError(facts.code, facts.message, facts.remediation);
    const tail = `${code === 1006 ? "" : ` with code ${code}`}${detail === "" ? "" : `: ${detail}`}`;
    return this.#phase.at === "opening" ? failure.connectFailed(tail, retryAfterMs) : failure.connectionLost(tail);
  }
  #send(frame) {
    this.#emit({ type: "send", frame });
  }
  #emit(output) {
    this.#out.push(output);
  }
  #flush() {
    const out = this.#out;
    this.#out = [];
    return out;
  }
};

// src/transport.ts
var OPEN = 1;
var NO_CLOSE_FRAME = 1006;
var Transport = class {
  #socket;
  #detail = "";
  #dropped = false;
  constructor(Socket, target, events) {
    const asEntry = fitsSubprotocol(target.token);
    this.#socket = new Socket(address(target), asEntry ? [SUBPROTOCOL, BEARER_PREFIX + target.token] : [SUBPROTOCOL]);
    this.#socket.onopen = () => {
      if (!asEntry) this.send(clientFrame("auth", { token: target.token }));
    };
    this.#socket.onmessage = (event) => {
      if (typeof event.data === "string") events.text(event.data);
    };
    this.#socket.onerror = (event) => {
      if (typeof event.message === "string") this.#detail = event.message;
    };
    this.#socket.onclose = (event) => {
      this.#silence();
      events.closed(event.code, event.reason || this.#detail);
    };
    this.#socket.on?.("unexpected-response", (_, response) => {
      readRefusal(response, (retryAfterMs) => {
        if (this.#dropped) return;
        this.drop();
        events.closed(NO_CLOSE_FRAME, `HTTP ${response.statusCode}`, retryAfterMs);
      });
    });
  }
  /** Sends a frame; without effect while the socket is not open. */
  send(frame) {
    if (this.#socket.readyState === OPEN) this.#socket.send(JSON.stringify(frame));
  }
  /** Lets go of the socket. What was sent before still goes out. */
  drop() {
    this.#dropped = true;
    this.#silence();
    this.#socket.close(1e3);
  }
  #silence() {
    this.#socket.onopen = null;
    this.#socket.onmessage = null;
    this.#socket.onclose = null;
    this.#socket.onerror = () => {
    };
  }
};
function readRefusal(response, done) {
  const pieces = [];
  let bytes = 0;
  let over = false;
  const end = () => {
    if (over) return;
    over = true;
    done(toldBy(pieces) ?? seconds(response.headers["retry-after"]));
  };
  response.on("data", (piece) => {
    bytes += piece.length;
    if (bytes > REFUSAL_BYTES) end();
    else pieces.push(piece);
  });
  response.on("end", end);
  response.on("error", end);
}
function toldBy(pieces) {
  const decoder = new TextDecoder();
  try {
    const text = pieces.map((piece) => decoder.decode(piece, { stream: true })).join("");
    const told = JSON.parse(text)?.retryAfterMs;
    return typeof told === "number" && told >= 0 ? told : void 0;
  } catch {
    return void 0;
  }
}
function seconds(header) {
  return typeof header === "string" && /^\d+$/.test(header) ? Number(header) * 1e3 : void 0;
}
function fitsSubprotocol(token) {
  return /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/.test(token);
}
function address(target) {
  const url = new URL(target.url);
  if (target.device !== void 0) url.searchParams.set("device", target.device);
  if (target.kind !== void 0) url.searchParams.set("kind", target.kind);
  if (target.activity !== void 0) url.searchParams.set("activity", target.activity);
  return url.href;
}
function serviceUrl(text) {
  const base = globalThis.location?.href;
  let url;
  try {
    url = new URL(text, base);
  } catch {
    throw failure.invalidOption("`url` is no address, for example wss://presence.example.com.");
  }
  if (url.protocol === "http:") url.protocol = "ws:";
  if (url.protocol === "https:") url.protocol = "wss:";
  if (url.protocol !== "ws:" && url.protocol !== "wss:")
    throw failure.invalidOption("`url` must begin with ws, wss, http or https.");
  if (url.pathname === "/") url.pathname = "/v1/connect";
  url.hash = "";
  return url;
}

// src/watch.ts
var Watch = class {
  /** Whom it watches. */
  users;
  #users;
  #listener;
  #onClose;
  #pending = /* @__PURE__ */ new Map();
  #wake;
  #iterated = false;
  #closed = false;
  /** @internal */
  constructor(users, listener, onClose) {
    this.users = this.#users = users;
    this.#listener = listener;
    this.#onClose = onClose;
  }
  /** Ends the watch; iterators end too. */
  close() {
    if (this.#closed) return;
    this.#closed = true;
    this.#onClose(this);
    this.#wake?.();
  }
  /** @internal */
  forget(users) {
    for (const user of users) {
      this.#users.delete(user);
      this.#pending.delete(user);
    }
  }
  /** @internal */
  tell(change) {
    if (this.#closed) return;
    this.#listener?.(change.presence, change.previous);
    if (this.#listener !== void 0 && !this.#iterated) return;
    const user = change.presence.userId;
    const pending = this.#pending.get(user);
    this.#pending.set(user, pending === void 0 ? change : { presence: change.presence, previous: pending.previous });
    this.#wake?.();
  }
  async *[Symbol.asyncIterator]() {
    this.#iterated = true;
    try {
      while (!this.#closed) {
        const next = this.#pending.entries().next();
        if (next.done) {
          await new Promise((resolve) => this.#wake = resolve);
        } else {
          this.#pending.delete(next.value[0]);
          yield next.value[1];
        }
      }
    } finally {
      this.close();
    }
  }
};

// src/client.ts
var HerenowClient = class {
  #options;
  #url;
  #Socket;
  #connection = new Connection(Math.random);
  #watches = /* @__PURE__ */ new Set();
  #counts = /* @__PURE__ */ new Map();
  #dirty = /* @__PURE__ */ new Set();
  #waiters = /* @__PURE__ */ new Map();
  #listeners = /* @__PURE__ */ new Map();
  #transport;
  #timer;
  #state = { state: "closed" };
  #outputs = [];
  #running = false;
  #tickets = 0;
  #tokenTurn = 0;
  /** @throws HerenowError `invalid_option`, `no_websocket`. */
  constructor(options) {
    if (typeof options.token !== "function")
      throw failure.invalidOption("`token` must be a function that returns a token.");
    const Socket = options.WebSocket ?? globalThis.WebSocket;
    if (typeof Socket !== "function") throw failure.noWebSocket();
    this.#options = options;
    this.#url = serviceUrl(options.url);
    this.#Socket = Socket;
  }
  /** How the connection is doing. */
  get state() {
    return this.#state.state;
  }
  /** What the gateway said when this session opened: whose it is, and its times; `undefined` before. */
  get session() {
    return this.#connection.welcome;
  }
  /** Opens the connection and keeps it open. Resolves when it is open the first time; rejects when it is closed for good. */
  connect() {
    const opened = new Promise((resolve, reject) => {
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
    opened.catch(() => {
    });
    this.#run(this.#connection.connect(performance.now()));
    globalThis.addEventListener?.("online", this.#online);
    return opened;
  }
  /** Says goodbye: the user is seen to leave at once, unless another session of it is open. */
  close() {
    globalThis.removeEventListener?.("online", this.#online);
    this.#run(this.#connection.close(performance.now()));
  }
  /**
   * Watches users: `listener` is told what is known of each, then every change. Without a listener, iterate over what
   * this returns. Users may be watched several times; each watch is closed by itself.
   * @throws HerenowError `invalid_user_id`.
   */
  watch(userIds, listener) {
    const users = new Set(userIds);
    for (const user of users) checkUserId(user);
    const watch = new Watch(users, listener, (closed) => this.#unwatched(closed));
    this.#watches.add(watch);
    for (const user of users) this.#count(user, 1);
    queueMicrotask(() => this.#tellKnown(watch));
    return watch;
  }
  /** Takes users off every watch. */
  unwatch(userIds) {
    const users = [...userIds];
    for (const watch of this.#watches) {
      for (const user of users) if (watch.users.has(user)) this.#count(user, -1);
      watch.forget(users);
    }
  }
  /** Asks for users once, in the order given. Waits for the connection if need be, at most 10 s in all. */
  async query(userIds) {
    const users = [...userIds];
    for (const user of users) checkUserId(user);
    const answers = await Promise.all(
      pages(new Set(users)).map((page) => this.#request({ type: "query", users: page }))
    );
    const known = new Map(answers.flat().map((presence) => [presence.userId, presence]));
    return users.map((user) => known.get(user)).filter((presence) => presence !== void 0);
  }
  /** Sets this user's own status, or with `auto` ends it. Resolves when it holds. */
  async setStatus(status) {
    checkBytes("text", status.text, STATUS_TEXT_BYTES);
    checkBytes("emoji", status.emoji, STATUS_EMOJI_BYTES);
    await this.#request(clientFrame("status", { ...status }));
  }
  /** Says what the person does: at once, and in every heartbeat from now on. */
  setActivity(activity) {
    this.#run(this.#connection.setActivity(activity, performance.now()));
  }
  /** What is known of a watched user. */
  presence(userId) {
    return this.#connection.presences.get(userId);
  }
  /** Listens to an event; returns what stops listening. */
  on(event, listener) {
    const listeners = this.#listeners.get(event) ?? /* @__PURE__ */ new Set();
    this.#listeners.set(event, listeners.add(listener));
    return () => listeners.delete(listener);
  }
  #request(body) {
    this.#tickets += 1;
    const ticket = this.#tickets;
    return new Promise((resolve, reject) => {
      this.#waiters.set(ticket, { resolve, reject });
      this.#run(this.#connection.request(ticket, body, performance.now()));
    });
  }
  #count(user, by) {
    const count = (this.#counts.get(user) ?? 0) + by;
    if (count === 0) this.#counts.delete(user);
    else this.#counts.set(user, count);
    if (this.#dirty.size === 0) queueMicrotask(() => this.#syncWatchList());
    this.#dirty.add(user);
  }
  #syncWatchList() {
    const dirty = [...this.#dirty];
    this.#dirty.clear();
    const watched = this.#connection.presences.watched;
    const add = dirty.filter((user) => this.#counts.has(user) && !watched.has(user));
    const remove = dirty.filter((user) => !this.#counts.has(user) && watched.has(user));
    this.#run(this.#connection.watch(add, remove, performance.now()));
  }
  #unwatched(watch) {
    this.#watches.delete(watch);
    for (const user of watch.users) this.#count(user, -1);
  }
  #tellKnown(watch) {
    for (const user of watch.users) {
      const presence = this.presence(user);
      if (presence !== void 0) this.#guard(() => watch.tell({ presence, previous: void 0 }));
    }
  }
  #online = () => this.#run(this.#connection.wake(performance.now()));
  #tick = () => this.#run(this.#connection.handleTimeout(performance.now()));
  #run(outputs) {
    this.#outputs.push(...outputs);
    if (this.#running) return;
    this.#running = true;
    for (let next = this.#outputs.shift(); next !== void 0; next = this.#outputs.shift()) this.#do(next);
    this.#running = false;
    this.#setTimer();
  }
  #setTimer() {
    clearTimeout(this.#timer);
    const now = performance.now();
    const at = this.#connection.pollTimeout(now);
    if (at === Infinity) return;
    this.#timer = setTimeout(this.#tick, Math.max(0, Math.ceil(at - now)));
    if (this.state === "closed") this.#timer.unref?.();
  }
  #do(output) {
    if (output.type === "send") this.#transport?.send(output.frame);
    else if (output.type === "changes") this.#changed(output.changes);
    else if (output.type === "answer") this.#answered(output.ticket, output.outcome);
    else if (output.type === "token") void this.#fetchToken(output.reason);
    else if (output.type === "open") this.#open(output.token);
    else if (output.type === "drop") this.#drop();
    else if (output.type === "state") this.#changedState(output);
    else this.#emit("error", output.error);
  }
  async #fetchToken(reason) {
    this.#tokenTurn += 1;
    const turn = this.#tokenTurn;
    let outputs;
    try {
      const token = await this.#options.token(reason);
      if (typeof token !== "string" || token === "") throw new TypeError("it returned no token");
      outputs = (now) => this.#connection.tokenReady(token, now);
    } catch (cause) {
      outputs = (now) => this.#connection.tokenFailed(cause, now);
    }
    if (turn === this.#tokenTurn) this.#run(outputs(performance.now()));
  }
  #open(token) {
    const { device, kind } = this.#options;
    const target = { url: this.#url, token, device, kind, activity: this.#connection.activity };
    const closed = (code, detail, retryAfterMs) => {
      this.#transport = void 0;
      this.#run(this.#connection.closed(code, detail, performance.now(), retryAfterMs));
    };
    try {
      this.#transport = new Transport(this.#Socket, target, {
        text: (text) => this.#run(this.#connection.text(text, performance.now())),
        closed
      });
    } catch (error) {
      closed(NO_CLOSE_FRAME, error instanceof Error ? error.message : String(error));
    }
  }
  #drop() {
    this.#transport?.drop();
    this.#transport = void 0;
  }
  #changed(changes) {
    for (const change of changes) {
      for (const watch of this.#watches) {
        if (watch.users.has(change.presence.userId)) this.#guard(() => watch.tell(change));
      }
      this.#emit("presence", change);
    }
  }
  #answered(ticket, outcome) {
    const waiter = this.#waiters.get(ticket);
    this.#waiters.delete(ticket);
    if (outcome.ok) waiter?.resolve(outcome.users);
    else waiter?.reject(outcome.error);
  }
  #changedState({ state, reason, retryInMs }) {
    this.#state = { state, ...reason && { reason }, ...retryInMs !== void 0 && { retryInMs } };
    this.#emit("state", this.#state);
  }
  #emit(event, value) {
    for (const listener of this.#listeners.get(event) ?? [])
      this.#guard(() => listener(value));
  }
  /** A listener that throws is reported as any uncaught error, and stops nobody else. */
  #guard(call) {
    try {
      call();
    } catch (error) {
      queueMicrotask(() => {
        throw error;
      });
    }
  }
};
function checkBytes(field, value, most) {
  const bytes = new TextEncoder().encode(value ?? "").length;
  if (bytes > most) throw failure.invalidValue(`\`${field}\` has at most ${most} bytes, this one has ${bytes}.`);
}
export {
  ActivityMonitor,
  Connection,
  HerenowClient,
  HerenowError,
  PresenceMap,
  Watch,
  attemptAfter,
  backoffDelay,
  clientFrame,
  closeDuty,
  moveDelay,
  pages,
  parseServerFrame,
  refusalDelay
};
