// The shared vectors of protocol/vectors: each case is a test named by its clause.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import {
  attemptAfter,
  backoffDelay,
  clientFrame,
  closeDuty,
  moveDelay,
  refusalDelay,
  parseServerFrame,
  PresenceMap,
} from "../dist/herenow.js";

const vectors = (name) =>
  JSON.parse(readFileSync(new URL(`../../../protocol/vectors/${name}.json`, import.meta.url), "utf8"));
const each = (cases, name, run) => {
  assert.ok(cases.length > 0, "the vectors are there");
  for (const one of cases) test(`${one.clause} ${name(one)}`, () => run(one));
};

each(
  vectors("client_frames"),
  (c) => c.name,
  ({ frame, fields, json }) => {
    const { expiresAtMs, ...rest } = fields;
    const made = clientFrame(frame, expiresAtMs === undefined ? rest : { ...rest, expiresAt: new Date(expiresAtMs) });
    const text = JSON.stringify(made);
    assert.ok(text.startsWith('{"type":'));
    assert.deepEqual(JSON.parse(text), json);
  },
);

each(
  vectors("server_frames"),
  (c) => c.name,
  ({ text, understood }) => {
    assert.deepEqual(parseServerFrame(text) ?? null, understood);
  },
);

const { backoff, afterConnection, afterRefusal, afterReconnectFrame } = vectors("backoff");
each(
  backoff,
  (c) => `attempt ${c.attempt}, random ${c.random}`,
  ({ attempt, random, delayMs }) => {
    assert.equal(backoffDelay(attempt, random), delayMs);
  },
);
each(
  afterConnection,
  (c) => `attempt ${c.attempt} after a connection of ${c.lastedMs} ms`,
  ({ attempt, lastedMs, next }) => {
    assert.equal(attemptAfter(attempt, lastedMs), next);
  },
);
each(
  afterRefusal,
  (c) => `told ${c.toldMs}, random ${c.random}`,
  (c) => {
    assert.equal(refusalDelay(c.toldMs, c.random), c.delayMs);
  },
);
each(
  afterReconnectFrame,
  (c) => `after ${c.afterMs} within ${c.withinMs}, random ${c.random}`,
  (c) => {
    assert.equal(moveDelay(c.afterMs, c.withinMs, c.random), c.delayMs);
  },
);

each(
  vectors("close_codes"),
  (c) => `close ${c.code}`,
  ({ code, duty }) => {
    // A browser's name for a connection that ended without a close frame is 1006.
    assert.equal(closeDuty(code ?? 1006), duty);
  },
);

const { ascending, invalid } = vectors("versions");
const record = (version) => ({ userId: "ana", status: "online", lastUpdated: null, version });
const read = (version) => parseServerFrame(JSON.stringify({ type: "presence", users: [record(version)] })).users;
test("SDK-V1 versions ascend", () => {
  for (let i = 1; i < ascending.length; i += 1) {
    assert.equal(read(ascending[i].version).length, 1);
    assert.ok(ascending[i - 1].version < ascending[i].version);
  }
});
each(
  invalid,
  (c) => `no version: ${JSON.stringify(c.version)}`,
  ({ version }) => assert.deepEqual(read(version), []),
);

each(
  vectors("presence_map"),
  (c) => c.name,
  ({ steps }) => {
    const map = new PresenceMap();
    for (const [index, step] of steps.entries()) {
      const changes = [...map.advance(step.at), ...carryOut(map, step), ...map.advance(step.at)];
      const where = `step ${index}: ${step.do} at ${step.at}`;
      assert.deepEqual([...new Set(changes.map((c) => c.presence.userId))].sort(), [...step.changed].sort(), where);
      assert.deepEqual(Object.fromEntries(map.values().map((p) => [p.userId, p])), step.view, where);
    }
  },
);

function carryOut(map, step) {
  const actions = {
    connected: () => map.connected(step.at, Date.parse(step.serverTime), step.freshForMs),
    watch: () => map.watch(step.users),
    unwatch: () => map.unwatch(step.users),
    heard: () => map.heard(step.at),
    disconnected: () => map.disconnected(),
    advance: () => {},
    frame: () => {
      map.heard(step.at);
      return map.frame(parseServerFrame(JSON.stringify(step.frame)).users);
    },
  };
  assert.ok(actions[step.do], `the vectors name an action this test does not know: ${step.do}`);
  return actions[step.do]() ?? [];
}
