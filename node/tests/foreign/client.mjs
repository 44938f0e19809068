// One person with the `ws` package of Node.js: a client that shares no code with Herenow.
//
//     client.mjs URL TOKEN DEVICE [USER ...]
//
// Connects to URL, watches the users, and sends heartbeats. Writes a line of JSON for each frame that comes, and for each
// it sends because a line on its standard input says so. `at` is CLOCK_MONOTONIC in nanoseconds, which all processes of
// a machine share.
import { createInterface } from "node:readline";
import { WebSocket } from "../../../client-sdk/js/node_modules/ws/wrapper.mjs";

const [url, token, device, ...users] = process.argv.slice(2);
const say = (at, kind, frame) => process.stdout.write(`${JSON.stringify({ at: Number(at), [kind]: frame })}\n`);

const socket = new WebSocket(`${url}/v1/connect?device=${device}&activity=active`, ["herenow.v1.json"], {
  headers: { Authorization: `Bearer ${token}` },
});
let beat;

socket.on("message", (text) => {
  const at = process.hrtime.bigint();
  const frame = JSON.parse(text);
  say(at, "frame", frame);
  if (frame.type !== "welcome") return;
  beat = setInterval(() => socket.send('{"type":"heartbeat"}'), frame.heartbeatIntervalMs);
  if (users.length > 0) socket.send(JSON.stringify({ type: "watch", id: 1, users }));
  // Its end is the end.
  createInterface(process.stdin).on("line", obey).on("close", () => socket.close());
});
socket.on("close", () => {
  clearInterval(beat);
  process.stdin.destroy();
});
socket.on("error", (error) => {
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
});

function obey(line) {
  const at = process.hrtime.bigint();
  socket.send(line);
  say(at, "sent", JSON.parse(line));
}
