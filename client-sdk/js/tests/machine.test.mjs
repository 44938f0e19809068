// The connection with a clock and a random number that the test sets.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Connection } from "../dist/herenow.js";

const WELCOME = {
  type: "welcome",
  session: "g-0/1",
  userId: "ana",
  heartbeatIntervalMs: 20_000,
  heartbeatTimeoutMs: 30_000,
  idleAfterMs: 300_000,
  freshForMs: 20_000,
  serverTime: "2026-01-01T00:00:00.000Z",
};

/** A connection, its clock, and what it wanted done since it was last asked. */
class Bench {
  now = 0;
  random = 0.5;
  outputs = [];
  connection = new Connection(() => this.random);

  do(call) {
    this.outputs.push(...call(this.connection));
  }
  taken(type) {
    const all = this.outputs;
    this.outputs = [];
    return type === undefined ? all : all.filter((output) => output.type === type);
  }
  frames() {
    return this.taken("send").map((output) => output.frame);
  }
  receive(frame) {
    this.do((c) => c.text(JSON.stringify(frame), this.now));
  }
  open() {
    this.do((c) => c.connect(this.now));
    this.reopen();
  }
  reopen() {
    this.do((c) => c.tokenReady("t.t.t", this.now));
    this.receive(WELCOME);
  }
  /** Lets time pass, stopping wherever the connection asks for. */
  pass(ms) {
    const end = this.now + ms;
    for (let turn = 0; turn < 1_000; turn += 1) {
      const next = this.connection.pollTimeout(this.now);
      if (next > end) break;
      this.now = Math.max(this.now, next);
      this.do((c) => c.handleTimeout(this.now));
    }
    this.now = end;
  }
  close(code) {
    this.do((c) => c.closed(code, "", this.now));
  }
}

const presence = (userId, status, n) => ({
  userId,
  status,
  lastUpdated: null,
  version: `00000001aaaaaaaa${String(n).padStart(12, "0")}`,
});
const opened = () => {
  const bench = new Bench();
  bench.open();
  bench.taken();
  return bench;
};

test("connecting asks for a token, opens with it, and is open at the welcome", () => {
  const bench = new Bench();
  bench.do((c) => c.connect(0));
  assert.deepEqual(bench.taken(), [
    { type: "state", state: "connecting" },
    { type: "token", reason: "connect" },
  ]);
  bench.do((c) => c.tokenReady("t.t.t", 0));
  assert.deepEqual(bench.taken(), [{ type: "open", token: "t.t.t" }]);
  bench.receive(WELCOME);
  assert.deepEqual(bench.taken(), [{ type: "state", state: "open" }]);
});

test("a heartbeat goes out every interval and says what the person does", () => {
  const bench = opened();
  bench.do((c) => c.setActivity("idle", bench.now));
  assert.deepEqual(bench.frames(), [{ type: "heartbeat", activity: "idle" }]);
  bench.do((c) => c.setActivity("idle", bench.now));
  assert.deepEqual(bench.frames(), [], "what does not change is not said again");
  bench.pass(10_000);
  bench.receive({ type: "presence", users: [] });
  bench.pass(10_000);
  assert.deepEqual(
    bench.frames(),
    [{ type: "heartbeat", activity: "idle" }],
    "something was heard: no answer is asked",
  );
});

test("a heartbeat asks for an answer when nothing was heard for an interval; without one the connection is dead", () => {
  const bench = opened();
  bench.pass(20_000);
  const [heartbeat] = bench.frames();
  assert.equal(heartbeat.type, "heartbeat");
  assert.equal(typeof heartbeat.id, "number");
  bench.pass(9_999);
  assert.deepEqual(bench.taken(), []);
  bench.pass(1);
  const [drop, state] = bench.taken();
  assert.equal(drop.type, "drop");
  assert.equal(state.state, "reconnecting");
  assert.equal(state.reason.code, "heartbeat_timeout");
});

test("an answered heartbeat keeps the connection", () => {
  const bench = opened();
  for (let i = 0; i < 20; i += 1) {
    bench.pass(20_000);
    for (const frame of bench.frames()) if (frame.id !== undefined) bench.receive({ type: "ack", id: frame.id });
  }
  assert.deepEqual(bench.taken("drop"), []);
});

test("attempts to come back wait longer and longer, until a connection has lasted", () => {
  const bench = opened();
  const waits = [];
  for (let i = 0; i < 9; i += 1) {
    bench.close(1006);
    const state = bench.taken("state").at(-1);
    waits.push(state.retryInMs);
    bench.pass(state.retryInMs);
    assert.equal(bench.taken("token").length, 1);
    bench.reopen();
  }
  assert.deepEqual(waits, [250, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000]);
  bench.pass(20_000);
  bench.receive({ type: "presence", users: [] });
  bench.pass(10_000);
  bench.close(1006);
  assert.equal(bench.taken("state").at(-1).retryInMs, 250);
});

test("an activity that flaps costs few frames, and the last one is said", () => {
  const bench = opened();
  for (const activity of ["idle", "active", "idle", "active", "background"])
    bench.do((c) => c.setActivity(activity, bench.now));
  assert.deepEqual(
    bench.frames().map((f) => f.activity),
    ["idle"],
  );
  bench.pass(250);
  assert.deepEqual(
    bench.frames().map((f) => f.activity),
    ["background"],
  );
  bench.do((c) => c.setActivity("active", bench.now));
  bench.do((c) => c.setActivity("background", bench.now));
  bench.pass(1_000);
  assert.deepEqual(bench.frames(), [], "there and back within the window is nothing to say");
});

test("an activity that changes while the connection opens is said at the welcome", () => {
  const bench = new Bench();
  bench.do((c) => c.setActivity("active", 0));
  bench.do((c) => c.connect(0));
  bench.do((c) => c.tokenReady("t", 0));
  bench.do((c) => c.setActivity("idle", 0));
  bench.taken();
  bench.receive(WELCOME);
  assert.deepEqual(bench.frames(), [{ type: "heartbeat", activity: "idle" }]);
});

test("a token that never comes is asked for again", () => {
  const bench = new Bench();
  bench.do((c) => c.connect(0));
  bench.taken();
  bench.pass(30_000);
  const [state] = bench.taken("state");
  assert.deepEqual([state.state, state.reason.code], ["reconnecting", "token_failed"]);
  bench.pass(state.retryInMs);
  assert.equal(bench.taken("token").length, 1);
});

test("a refused watch is not tried again for users nobody watches any longer", () => {
  const bench = opened();
  bench.do((c) => c.watch(["ben", "cat"], [], bench.now));
  const [{ id }] = bench.frames();
  bench.do((c) => c.watch([], ["ben"], bench.now));
  bench.taken();
  bench.receive({ type: "error", id, code: "unavailable", message: "m", remediation: "r" });
  bench.pass(1_000);
  assert.deepEqual(
    bench.frames().map((f) => f.users),
    [["cat"]],
  );
});

test("a handshake that never ends is given up", () => {
  const bench = new Bench();
  bench.do((c) => c.connect(0));
  bench.do((c) => c.tokenReady("t", 0));
  bench.taken();
  bench.pass(10_000);
  assert.deepEqual(
    bench.taken().map((o) => o.type),
    ["drop", "state"],
  );
});

test("the whole watch list is sent again after a reconnect, at most 1,000 users a frame", () => {
  const bench = opened();
  const users = Array.from({ length: 2_500 }, (_, i) => `user ${i}`);
  bench.do((c) => c.watch(users, [], bench.now));
  assert.deepEqual(
    bench.frames().map((f) => f.users.length),
    [1_000, 1_000, 500],
  );
  bench.do((c) => c.watch([], ["user 0"], bench.now));
  bench.close(1006);
  bench.pass(250);
  bench.taken();
  bench.reopen();
  const again = bench.frames();
  assert.deepEqual(
    again.map((f) => f.type),
    ["watch", "watch", "watch"],
  );
  assert.deepEqual(
    again.flatMap((f) => f.users),
    users.slice(1),
  );
});

test("frames stay under 64 KiB however long the ids are", () => {
  const bench = opened();
  const users = Array.from({ length: 1_000 }, (_, i) => `${i}`.padEnd(128, '"'));
  bench.do((c) => c.watch(users, [], bench.now));
  const frames = bench.frames();
  assert.ok(frames.length > 1);
  for (const frame of frames) assert.ok(Buffer.byteLength(JSON.stringify(frame)) <= 65_536);
  assert.deepEqual(
    frames.flatMap((f) => f.users),
    users,
  );
});

test("changes are told, and an older record never", () => {
  const bench = opened();
  bench.do((c) => c.watch(["ben"], [], bench.now));
  const [{ id }] = bench.frames();
  bench.receive({ type: "snapshot", id, users: [presence("ben", "online", 2)], complete: true });
  assert.deepEqual(bench.taken("changes"), [
    { type: "changes", changes: [{ presence: presence("ben", "online", 2), previous: undefined }] },
  ]);
  bench.receive({ type: "presence", users: [presence("ben", "offline", 1)] });
  assert.deepEqual(bench.taken("changes"), []);
});

test("cut off for longer than freshForMs, everybody is unknown; a new record brings them back", () => {
  const bench = opened();
  bench.do((c) => c.watch(["ben"], [], bench.now));
  bench.receive({ type: "snapshot", id: 1, users: [presence("ben", "online", 1)], complete: true });
  bench.taken();
  bench.close(1006);
  bench.pass(19_999);
  assert.deepEqual(bench.taken("changes"), []);
  bench.pass(1);
  const [{ changes }] = bench.taken("changes");
  assert.equal(changes[0].presence.status, "unknown");
  assert.equal(changes[0].presence.asOf, "2026-01-01T00:00:00.000Z");
  bench.reopen();
  bench.receive({ type: "presence", users: [presence("ben", "online", 1)] });
  assert.equal(bench.taken("changes")[0].changes[0].presence.status, "online");
});

test("a reconnect frame moves the client within its window, and the close that comes first changes nothing", () => {
  const bench = opened();
  bench.receive({ type: "reconnect", afterMs: 1_000, withinMs: 4_000, reason: "shutdown" });
  bench.pass(2_999);
  assert.deepEqual(bench.taken(), []);
  bench.pass(1);
  assert.deepEqual(
    bench.taken().map((o) => o.type),
    ["drop", "token"],
  );

  const other = opened();
  other.receive({ type: "reconnect", afterMs: 1_000, withinMs: 4_000, reason: "shutdown" });
  other.close(4000);
  assert.equal(other.taken("state")[0].retryInMs, 3_000);
});

test("a move is no news for the application unless it fails", () => {
  const moving = () => {
    const bench = opened();
    bench.receive({ type: "reconnect", afterMs: 1_000, withinMs: 0, reason: "shutdown" });
    bench.pass(1_000);
    bench.taken();
    bench.do((c) => c.tokenReady("a", bench.now));
    return bench;
  };
  const good = moving();
  good.receive(WELCOME);
  assert.deepEqual(good.taken("state"), []);
  good.close(1006);
  assert.equal(good.taken("state")[0].state, "reconnecting", "the move is over");

  const bad = moving();
  bad.close(1006);
  assert.equal(bad.taken("state")[0].state, "reconnecting");
});

test("a token that runs out is renewed on the open socket", () => {
  const bench = opened();
  bench.receive({ type: "token_expiring", expiresAt: "2026-01-01T00:01:00.000Z" });
  assert.deepEqual(bench.taken(), [{ type: "token", reason: "expiring" }]);
  bench.do((c) => c.tokenReady("new", bench.now));
  const [auth] = bench.frames();
  assert.equal(auth.type, "auth");
  assert.equal(auth.token, "new");
});

test("a renewal that fails is tried again", () => {
  const bench = opened();
  bench.receive({ type: "token_expiring", expiresAt: "2026-01-01T00:01:00.000Z" });
  bench.taken();
  bench.do((c) => c.tokenFailed(new Error("no"), bench.now));
  assert.equal(bench.taken("error")[0].error.code, "token_failed");
  bench.pass(500);
  assert.deepEqual(bench.taken("token"), [{ type: "token", reason: "expiring" }]);
});

test("close codes are obeyed", () => {
  const after = (code) => {
    const bench = opened();
    bench.close(code);
    const [state] = bench.taken("state");
    bench.pass(60_000);
    return [state.state, state.reason.code, bench.taken("token").at(0)?.reason];
  };
  assert.deepEqual(after(4000), ["reconnecting", "shutdown", "connect"]);
  assert.deepEqual(after(4401), ["reconnecting", "token_expired", "expired"]);
  assert.deepEqual(after(4501), ["closed", "unauthorized", undefined]);
  assert.deepEqual(after(4999), ["closed", "connection_lost", undefined]);
  assert.deepEqual(after(1000), ["closed", "bye", undefined]);
});

test("what a caller asked survives a reconnect and ends in time", () => {
  const bench = opened();
  bench.do((c) => c.request(7, { type: "query", users: ["ben"] }, bench.now));
  bench.close(1006);
  bench.pass(250);
  bench.taken();
  bench.reopen();
  const [query] = bench.frames();
  bench.receive({ type: "snapshot", id: query.id, users: [presence("ben", "online", 1)], complete: true });
  assert.deepEqual(bench.taken("answer"), [
    { type: "answer", ticket: 7, outcome: { ok: true, users: [presence("ben", "online", 1)] } },
  ]);
  bench.do((c) => c.request(8, { type: "query", users: ["ben"] }, bench.now));
  bench.pass(10_000);
  assert.equal(bench.taken("answer")[0].outcome.error.code, "timeout");
});

test("pages of a snapshot are one answer, and no more than 8 requests are on the way", () => {
  const bench = opened();
  for (let ticket = 0; ticket < 20; ticket += 1)
    bench.do((c) => c.request(ticket, { type: "query", users: ["ben"] }, bench.now));
  const sent = bench.frames();
  assert.equal(sent.length, 8);
  bench.receive({ type: "snapshot", id: sent[0].id, users: [presence("ben", "online", 1)], complete: false });
  assert.deepEqual(bench.taken(), []);
  bench.receive({ type: "snapshot", id: sent[0].id, users: [presence("cat", "idle", 1)], complete: true });
  assert.equal(bench.outputs.find((o) => o.type === "answer").outcome.users.length, 2);
  assert.equal(bench.frames().length, 1);
});

test("a refused request is an error with message and remediation; a refused watch is an event, and tried again if that may help", () => {
  const bench = opened();
  const refuse = (id, code) =>
    bench.receive({ type: "error", id, code, message: "m", remediation: "r", retryAfterMs: 250 });
  bench.do((c) => c.request(1, { type: "status", status: "dnd" }, bench.now));
  refuse(bench.frames()[0].id, "forbidden");
  const { error } = bench.taken("answer")[0].outcome;
  assert.deepEqual([error.code, error.message, error.remediation, error.retryAfterMs], ["forbidden", "m", "r", 250]);

  bench.do((c) => c.watch(["ben"], [], bench.now));
  refuse(bench.frames()[0].id, "unavailable");
  assert.deepEqual(bench.taken(), []);
  bench.pass(250);
  const [again] = bench.frames();
  assert.deepEqual(again.users, ["ben"]);
  refuse(again.id, "too_many_watches");
  assert.equal(bench.taken("error")[0].error.code, "too_many_watches");
});

test("closing says bye, lets go, and fails what was asked", () => {
  const bench = opened();
  bench.do((c) => c.request(1, { type: "status", status: "dnd" }, bench.now));
  bench.taken();
  bench.do((c) => c.close(bench.now));
  const [bye, drop, answer, state] = bench.taken();
  assert.deepEqual(
    [bye.frame, drop.type, answer.outcome.error.code, state.state],
    [{ type: "bye" }, "drop", "closed", "closed"],
  );
});

test("a client that waits tries at once when the network is back", () => {
  const bench = opened();
  bench.close(1006);
  bench.taken();
  bench.do((c) => c.wake(bench.now));
  assert.deepEqual(
    bench.taken().map((o) => o.type),
    ["token"],
  );
});

test("nonsense from the gateway changes nothing", () => {
  const bench = opened();
  for (const text of [
    "",
    "null",
    "[]",
    "{",
    '{"type":"presence","users":{}}',
    '{"type":"__proto__"}',
    '{"type":"ack","id":1e400}',
    '{"type":"snapshot","id":99,"users":[],"complete":true}',
  ]) {
    bench.do((c) => c.text(text, bench.now));
  }
  assert.deepEqual(bench.taken(), []);
});
