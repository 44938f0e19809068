// The whole client over real sockets, against the fake server.
import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { WebSocket } from "ws";
import { HerenowClient, HerenowError } from "../dist/herenow.js";
import { FakeServer, tokenOf } from "./fake-server.mjs";

const cleanup = [];
afterEach(async () => {
  for (const done of cleanup.splice(0).reverse()) await done();
});

async function serve(options) {
  const server = await FakeServer.start(options);
  cleanup.push(() => server.stop());
  return server;
}

function client(server, user, options = {}) {
  const made = new HerenowClient({ url: server.url, token: async () => tokenOf(user), WebSocket, ...options });
  cleanup.push(() => made.close());
  return made;
}

/** Waits until a condition holds, looking again on every turn of the event loop's timers. */
async function until(condition, what) {
  const end = performance.now() + 5_000;
  for (let value = condition(); ; value = condition()) {
    if (value) return value;
    assert.ok(performance.now() < end, `waited 5 s for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

test("one sees another come, change and leave", async () => {
  const server = await serve();
  const [ana, ben] = [client(server, "ana"), client(server, "ben")];
  await ana.connect();
  const seen = [];
  ana.watch(["ben"], (presence, previous) => seen.push([previous?.status, presence.status]));
  await until(() => seen.length === 1, "the first value");
  await ben.connect();
  await until(() => seen.length === 2, "online");
  ben.setActivity("idle");
  await until(() => seen.length === 3, "idle");
  await ben.setStatus({ status: "dnd", text: "writing", emoji: "✍️" });
  await until(() => ana.presence("ben")?.text === "writing", "the text");
  ben.close();
  await until(() => ana.presence("ben")?.status === "offline", "offline");
  assert.deepEqual(seen, [
    [undefined, "offline"],
    ["offline", "online"],
    ["online", "idle"],
    ["idle", "dnd"],
    ["dnd", "offline"],
  ]);
  assert.equal(server.frames("bye").length, 1);
});

test("watches share one watch list and close by themselves", async () => {
  const server = await serve();
  const ana = client(server, "ana");
  await ana.connect();
  const one = ana.watch(["ben", "cat"], () => {});
  const two = ana.watch(["ben"], () => {});
  await until(() => ana.presence("ben"), "ben");
  assert.deepEqual(
    server.frames("watch").map((f) => f.users),
    [["ben", "cat"]],
  );
  one.close();
  await until(() => server.frames("unwatch").length === 1, "unwatch");
  assert.deepEqual(server.frames("unwatch")[0].users, ["cat"]);
  assert.equal(ana.presence("cat"), undefined);
  const late = [];
  ana.watch(["ben"], (presence) => late.push(presence.userId));
  await until(() => late.length === 1, "a later watch is told what is known");
  ana.unwatch(["ben"]);
  await until(() => server.frames("unwatch").length === 2, "unwatch of all");
  assert.equal(two.users.size, 0);
});

test("a watch is an async iterator that keeps the latest change and ends when it is closed", async () => {
  const server = await serve();
  const [ana, ben] = [client(server, "ana"), client(server, "ben")];
  await ana.connect();
  const watch = ana.watch(["ben"]);
  await until(() => ana.presence("ben"), "the first value");
  await ben.connect();
  await until(() => ana.presence("ben").status === "online", "online");
  const statuses = [];
  for await (const { presence } of watch) {
    statuses.push(presence.status);
    if (presence.status === "online") ben.close();
    if (statuses.length === 2) watch.close();
  }
  assert.deepEqual(statuses, ["online", "offline"], "offline before online was overtaken while nobody read");
});

test("a cut connection comes back and watches again; nobody sees it inside the grace period", async () => {
  const server = await serve({ gracePeriodMs: 2_000 });
  const [ana, ben] = [client(server, "ana"), client(server, "ben")];
  await Promise.all([ana.connect(), ben.connect()]);
  const seen = [];
  ana.watch(["ben"], (presence) => seen.push(presence.status));
  await until(() => seen.length === 1, "online");
  const states = [];
  ana.on("state", ({ state, reason }) => states.push([state, reason?.code]));
  server.cut();
  await until(() => ana.state === "open" && ben.state === "open" && states.length > 0, "both are back");
  assert.deepEqual(states, [
    ["reconnecting", "connection_lost"],
    ["open", undefined],
  ]);
  await until(() => server.frames("watch").length === 2, "watched again");
  await ben.setStatus({ status: "dnd" });
  await until(() => seen.at(-1) === "dnd", "changes come over the new connection");
  assert.deepEqual(seen, ["online", "dnd"]);
});

test("a busy gateway is come back to when it says: in the body, or in the head", async () => {
  for (const [problem, told] of [
    [{ code: "busy", retryAfterMs: 42_000 }, 42_000],
    [undefined, 7_000],
    [{ code: "busy", retryAfterMs: "soon" }, 7_000],
  ]) {
    const server = await serve({});
    server.refuse = 503;
    server.problem = problem;
    const ana = client(server, "ana");
    let waits;
    ana.on("state", ({ retryInMs, reason }) => (waits ??= reason && { retryInMs, told: reason.retryAfterMs }));
    ana.connect().catch(() => {});
    await until(() => waits !== undefined, "the refusal");
    assert.equal(waits.told, told);
    assert.ok(waits.retryInMs >= told && waits.retryInMs < told + 500, `${waits.retryInMs}`);
  }
});

test("a gateway that hangs is noticed, and what it knew becomes unknown", async () => {
  const server = await serve({ heartbeatIntervalMs: 50, heartbeatTimeoutMs: 120, freshForMs: 200 });
  const ana = client(server, "ana");
  await ana.connect();
  ana.watch(["ana"], () => {});
  await until(() => ana.presence("ana"), "the first value");
  const reasons = [];
  ana.on("state", ({ reason }) => reason && reasons.push(reason.code));
  server.mute = true;
  server.refuse = 503;
  await until(() => ana.presence("ana").status === "unknown", "unknown");
  assert.equal(reasons[0], "heartbeat_timeout");
  assert.match(ana.presence("ana").asOf, /^\d{4}-.*Z$/);
  server.mute = false;
  server.refuse = undefined;
  await until(() => ana.presence("ana").status === "online", "back");
});

test("heartbeats go on while the connection is quiet", async () => {
  const server = await serve({ heartbeatIntervalMs: 40, heartbeatTimeoutMs: 400 });
  const ana = client(server, "ana");
  await ana.connect();
  ana.setActivity("background");
  await until(() => server.frames("heartbeat").length >= 5, "heartbeats");
  assert.ok(server.frames("heartbeat").every((frame) => frame.activity === "background"));
  assert.ok(
    server.frames("heartbeat").some((frame) => frame.id !== undefined),
    "an answer is asked when nothing is heard",
  );
  assert.equal(ana.state, "open");
});

test("each connection asks for a token, an expiring one is renewed, an expired one says so", async () => {
  const server = await serve();
  const reasons = [];
  const token = async (reason) => tokenOf("ana", `${reasons.push(reason)}`);
  const ana = client(server, "ana", { token });
  await ana.connect();
  server.send({ type: "token_expiring", expiresAt: new Date().toISOString() });
  await until(() => server.frames("auth").length === 1, "auth");
  assert.equal(server.frames("auth")[0].token, tokenOf("ana", "2"));
  server.closeAll(4401);
  await until(() => server.tokens.length === 2, "reconnected");
  assert.deepEqual(reasons, ["connect", "expiring", "expired"]);
});

test("a token that is no subprotocol entry goes into the first frame", async () => {
  const server = await serve();
  const ana = client(server, "ana", { token: () => `${tokenOf("ana")}.a/b=` });
  await ana.connect();
  assert.equal(server.frames("auth").length, 1);
  assert.equal(ana.session.userId, "ana");
});

test("device and kind are named in the address, the token never is", async () => {
  const server = await serve();
  const ana = client(server, "ana", { device: "laptop 1", kind: "desktop" });
  ana.setActivity("idle");
  await ana.connect();
  const [session] = server.sessions;
  assert.deepEqual(Object.fromEntries(session.query), { device: "laptop 1", kind: "desktop", activity: "idle" });
});

test("a code that says stay away is obeyed, and connect() rejects with the reason", async () => {
  const server = await serve();
  const ana = client(server, "ana");
  await ana.connect();
  const closed = new Promise((resolve) => ana.on("state", resolve));
  server.closeAll(4501);
  const { state, reason } = await closed;
  assert.equal(state, "closed");
  assert.ok(reason instanceof HerenowError);
  assert.equal(reason.code, "unauthorized");
  assert.ok(reason.remediation.length > 0);
  await assert.rejects(ana.query(["ben"]), { code: "closed" });
  await ana.connect();
  assert.equal(ana.state, "open", "connect() begins anew");
});

test("a refused handshake is told with its cause and tried again", async () => {
  const server = await serve();
  server.refuse = 401;
  const ana = client(server, "ana");
  const first = new Promise((resolve) => ana.on("state", (event) => event.reason && resolve(event)));
  const opened = ana.connect();
  const { state, reason } = await first;
  assert.equal(state, "reconnecting");
  assert.equal(reason.code, "connect_failed");
  assert.match(reason.message, /401/);
  server.refuse = undefined;
  await opened;
});

test("a query answers in the order asked and watches nobody", async () => {
  const server = await serve();
  const [ana, ben] = [client(server, "ana"), client(server, "ben")];
  await ben.connect();
  await assert.rejects(ana.query(["cat"]), { code: "closed" }, "not connected and not connecting");
  const opened = ana.connect();
  const answer = await ana.query(["cat", "ben", "cat"]);
  await opened;
  assert.deepEqual(
    answer.map((p) => [p.userId, p.status]),
    [
      ["cat", "offline"],
      ["ben", "online"],
      ["cat", "offline"],
    ],
  );
  assert.equal(ana.presence("ben"), undefined);
  assert.deepEqual(await ana.query([]), []);
});

test("what cannot be sent is refused with a code", async () => {
  const server = await serve();
  const ana = client(server, "ana");
  await ana.connect();
  for (const bad of ["", "x".repeat(129), "é".repeat(65), "a\u0000", "a\n", 7]) {
    assert.throws(() => ana.watch([bad]), { code: "invalid_user_id" }, String(bad));
  }
  await assert.rejects(ana.setStatus({ status: "dnd", text: "x".repeat(257) }), { code: "invalid_value" });
  await assert.rejects(ana.setStatus({ status: "dnd", expiresAt: "tomorrow" }), { code: "invalid_value" });
  assert.equal(server.received.length, 0);
});

test("options that cannot work are refused with a remediation", () => {
  const token = () => "t";
  assert.throws(() => new HerenowClient({ url: "ftp://x", token, WebSocket }), { code: "invalid_option" });
  assert.throws(() => new HerenowClient({ url: "nowhere", token, WebSocket }), { code: "invalid_option" });
  assert.throws(() => new HerenowClient({ url: "ws://x", WebSocket }), { code: "invalid_option" });
});

test(
  "without a global WebSocket the error names the option",
  { skip: globalThis.WebSocket !== undefined && "this runtime has one" },
  () => {
    assert.throws(
      () => new HerenowClient({ url: "ws://x", token: () => "t" }),
      (error) => error.code === "no_websocket" && /`WebSocket` option/.test(error.remediation),
    );
  },
);

test("a listener that throws stops nobody else", async () => {
  const server = await serve();
  const ana = client(server, "ana");
  const thrown = new Promise((resolve) => process.once("uncaughtException", resolve));
  // The test runner listens too, and would take the error for a failure of this test.
  const others = process.listeners("uncaughtException").slice(0, -1);
  for (const other of others) process.off("uncaughtException", other);
  cleanup.push(() => others.forEach((other) => process.on("uncaughtException", other)));
  await ana.connect();
  const seen = [];
  ana.watch(["ana"], () => {
    throw new Error("a fault of the application");
  });
  ana.watch(["ana"], (presence) => seen.push(presence.status));
  assert.equal((await thrown).message, "a fault of the application");
  await until(() => seen.length === 1, "the other listener");
});

test("a token callback that fails is tried again", async () => {
  const server = await serve();
  let calls = 0;
  const ana = client(server, "ana", {
    token: async () => {
      calls += 1;
      if (calls === 1) throw new Error("the token service is down");
      return tokenOf("ana");
    },
  });
  const states = [];
  ana.on("state", ({ state, reason }) => states.push([state, reason?.code]));
  await ana.connect();
  assert.deepEqual(states, [
    ["connecting", undefined],
    ["reconnecting", "token_failed"],
    ["open", undefined],
  ]);
});
