// A small Herenow: enough of docs/PROTOCOL.md to test the client and to work on the demo page without the real one.
// It keeps everything in memory, trusts any token `name.<user>` or `name.<user>.<anything>`, and can be made to misbehave.
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { WebSocketServer } from "ws";

const PAGE = new URL("../../../node/demo/", import.meta.url);
const BUNDLE = new URL("../dist/herenow.js", import.meta.url);
const FILES = {
  "/": [new URL("index.html", PAGE), "text/html; charset=utf-8"],
  "/demo.css": [new URL("demo.css", PAGE), "text/css; charset=utf-8"],
  "/demo.js": [new URL("demo.js", PAGE), "text/javascript; charset=utf-8"],
  "/herenow.js": [BUNDLE, "text/javascript; charset=utf-8"],
};
const CSP =
  "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'";

const DEFAULTS = {
  heartbeatIntervalMs: 1_000,
  heartbeatTimeoutMs: 3_000,
  idleAfterMs: 300_000,
  freshForMs: 2_000,
  gracePeriodMs: 300,
  names: ["Ana", "Ben", "Cleo", "Dai", "Ela", "Femi", "Gus", "Hana"],
};

export class FakeServer {
  /** Every frame that came, with the user that sent it. */
  received = [];
  /** Every token that a handshake carried. */
  tokens = [];
  sessions = new Set();
  /** When set: how handshakes are refused, an HTTP status, and what is said beside it. */
  refuse = undefined;
  problem = undefined;
  /** When set, frames are read and not answered. */
  mute = false;
  #users = new Map();
  #counter = 0;
  #http = createServer((request, response) => void this.#serve(request, response));
  #upgrades = new WebSocketServer({
    noServer: true,
    handleProtocols: (all) => (all.has("herenow.v1.json") ? "herenow.v1.json" : false),
  });

  static async start(options = {}) {
    const server = new FakeServer();
    server.options = { ...DEFAULTS, ...options };
    server.#http.on("upgrade", (request, socket, head) => server.#upgrade(request, socket, head));
    await new Promise((resolve) => server.#http.listen(options.port ?? 0, "127.0.0.1", resolve));
    server.url = `http://127.0.0.1:${server.#http.address().port}/`;
    return server;
  }

  async stop() {
    for (const session of this.sessions) session.socket.terminate();
    for (const user of this.#users.values()) clearTimeout(user.grace);
    this.#http.closeAllConnections();
    await new Promise((resolve) => this.#http.close(resolve));
  }

  /** Cuts every connection as a crash would. */
  cut() {
    for (const session of this.sessions) session.socket.terminate();
  }

  /** Ends every session with a close code. */
  closeAll(code) {
    for (const session of this.sessions) session.socket.close(code);
  }

  send(frame) {
    for (const session of this.sessions) session.send(frame);
  }

  frames(type) {
    return this.received.filter((frame) => frame.type === type);
  }

  async #serve(request, response) {
    const { pathname } = new URL(request.url, this.url);
    const json = (status, body) =>
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    if (pathname === "/demo/config") return json(200, { wsPath: "/v1/connect", names: this.options.names });
    if (pathname === "/demo/token" && request.method === "POST") {
      let body = "";
      for await (const chunk of request) body += chunk;
      return json(200, { token: `name.${Buffer.from(JSON.parse(body).name).toString("base64url")}`, expiresIn: 3_600 });
    }
    const file = FILES[pathname];
    if (file === undefined) return json(404, { code: "not_found" });
    response.writeHead(200, { "content-type": file[1], "content-security-policy": CSP });
    response.end(await readFile(fileURLToPath(file[0])));
  }

  #upgrade(request, socket, head) {
    if (this.refuse !== undefined) {
      const body = this.problem === undefined ? "" : JSON.stringify(this.problem);
      const head = `retry-after: 7\r\ncontent-length: ${body.length}\r\n\r\n`;
      return socket.end(`HTTP/1.1 ${this.refuse} No\r\n${head}${body}`);
    }
    const entry = (request.headers["sec-websocket-protocol"] ?? "")
      .split(/, */)
      .find((part) => part.startsWith("bearer."));
    this.#upgrades.handleUpgrade(request, socket, head, (ws) => {
      const query = new URL(request.url, this.url).searchParams;
      const session = {
        socket: ws,
        watches: new Set(),
        activity: query.get("activity") ?? "active",
        query,
        send: (frame) => ws.readyState === ws.OPEN && ws.send(JSON.stringify(frame)),
      };
      ws.on("message", (data) => this.#frame(session, JSON.parse(data.toString())));
      ws.on("close", () => this.#lost(session));
      ws.on("error", () => {});
      if (entry !== undefined) this.#open(session, entry.slice("bearer.".length));
    });
  }

  #open(session, token) {
    this.tokens.push(token);
    session.user = Buffer.from(token.split(".")[1] ?? "", "base64url").toString();
    this.sessions.add(session);
    const { heartbeatIntervalMs, heartbeatTimeoutMs, idleAfterMs, freshForMs } = this.options;
    session.send({
      type: "welcome",
      session: `fake-0/${(this.#counter += 1)}`,
      userId: session.user,
      heartbeatIntervalMs,
      heartbeatTimeoutMs,
      idleAfterMs,
      freshForMs,
      serverTime: new Date().toISOString(),
    });
    this.#settle(session.user);
  }

  #frame(session, frame) {
    this.received.push({ ...frame, user: session.user });
    if (this.mute) return;
    if (frame.type === "auth") {
      if (session.user === undefined) this.#open(session, frame.token);
      else if (frame.id !== undefined) session.send({ type: "ack", id: frame.id });
    } else if (frame.type === "heartbeat") {
      if (frame.activity !== undefined) session.activity = frame.activity;
      if (frame.id !== undefined) session.send({ type: "ack", id: frame.id });
      this.#settle(session.user);
    } else if (frame.type === "watch" || frame.type === "query") {
      if (frame.type === "watch") for (const user of frame.users) session.watches.add(user);
      session.send({
        type: "snapshot",
        id: frame.id,
        users: frame.users.map((user) => this.#shown(user, session.user)),
        complete: true,
      });
    } else if (frame.type === "unwatch") {
      for (const user of frame.users) session.watches.delete(user);
      session.send({ type: "ack", id: frame.id });
    } else if (frame.type === "status") {
      this.#user(session.user).claim = frame.status === "auto" && frame.text === undefined ? undefined : frame;
      this.#settle(session.user);
      session.send({ type: "ack", id: frame.id });
    } else if (frame.type === "bye") {
      this.#lost(session, true);
      session.socket.close(1000);
    }
  }

  #lost(session, bye = false) {
    if (!this.sessions.delete(session)) return;
    const user = this.#user(session.user);
    if (bye) return this.#settle(session.user);
    clearTimeout(user.grace);
    user.grace = setTimeout(() => {
      user.grace = undefined;
      this.#settle(session.user);
    }, this.options.gracePeriodMs);
  }

  #user(name) {
    if (!this.#users.has(name)) this.#users.set(name, { own: undefined, public: undefined });
    return this.#users.get(name);
  }

  /** Decides what a user is shown as, and tells who watches it. */
  #settle(name) {
    const user = this.#user(name);
    const sessions = [...this.sessions].filter((session) => session.user === name);
    if (sessions.length === 0 && user.grace !== undefined) return;
    clearTimeout(user.grace);
    user.grace = undefined;
    const live = sessions.length > 0;
    const claimed = user.claim?.status;
    const truth = !live
      ? "offline"
      : ["idle", "dnd", "online"].includes(claimed)
        ? claimed
        : sessions.some((s) => s.activity === "active")
          ? "online"
          : "idle";
    const text = live && claimed !== "invisible" ? { text: user.claim?.text, emoji: user.claim?.emoji } : {};
    const own = { status: truth, ...text, ...(claimed === "invisible" && live && { invisible: true }) };
    const shown = claimed === "invisible" ? { status: "offline" } : own;
    this.#change(name, user, "own", own);
    this.#change(name, user, "public", shown);
  }

  #change(name, user, side, value) {
    const before = user[side];
    if (before !== undefined && JSON.stringify(before.value) === JSON.stringify(value)) return;
    const lastUpdated = before?.value.status === value.status ? before.lastUpdated : new Date().toISOString();
    user[side] = {
      value,
      lastUpdated,
      version: `0000000100000000${(this.#counter += 1).toString(16).padStart(12, "0")}`,
    };
    for (const session of this.sessions) {
      const isOwn = session.user === name;
      if (session.watches.has(name) && isOwn === (side === "own"))
        session.send({ type: "presence", users: [this.#shown(name, session.user)] });
    }
  }

  #shown(name, viewer) {
    const held = this.#users.get(name)?.[name === viewer ? "own" : "public"];
    if (held === undefined) return { userId: name, status: "offline", lastUpdated: null, version: "0".repeat(28) };
    return { userId: name, lastUpdated: held.lastUpdated, version: held.version, ...held.value };
  }
}

/** A token that the fake server takes for a user's. */
export const tokenOf = (user, more = "") =>
  `name.${Buffer.from(user).toString("base64url")}${more === "" ? "" : `.${more}`}`;

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const server = await FakeServer.start({ port: Number(process.env.PORT ?? 0), gracePeriodMs: 2_000 });
  console.log(server.url);
}
