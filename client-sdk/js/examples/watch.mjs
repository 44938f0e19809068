// Shows who is here: TOKEN=... node examples/watch.mjs Ana Ben [...]. HERENOW_URL names another service.
import { HerenowClient } from "../dist/herenow.js";

const WebSocket = globalThis.WebSocket ?? (await import("ws")).WebSocket;
const users = process.argv.slice(2);
const token = process.env.TOKEN;
if (!token || users.length === 0) {
  console.error("usage: TOKEN=... node examples/watch.mjs USER [USER ...]");
  process.exit(2);
}

const client = new HerenowClient({
  url: process.env.HERENOW_URL ?? "ws://127.0.0.1:8080",
  token: () => token,
  kind: "desktop",
  WebSocket,
});
client.on("state", ({ state, reason }) =>
  console.log(`[${state}]${reason ? ` ${reason.message} ${reason.remediation}` : ""}`),
);
client.on("error", (error) => console.error(`${error.code}: ${error.message} ${error.remediation}`));
client.watch(users, (presence, previous) => {
  console.log(
    `${presence.userId}: ${previous ? `${previous.status} → ` : ""}${presence.status}${presence.text ? ` (${presence.text})` : ""}`,
  );
});
client.connect();
process.once("SIGINT", () => client.close());
