// Real people in real tabs: the page uses the client as any page would.
import { ActivityMonitor, HerenowClient } from "/herenow.js";

/** Without a sign of its person for this long a tab is idle; `?idle=` sets other seconds. */
const IDLE_AFTER_S = 60;
/** How many transitions the log keeps. */
const LOG_ENTRIES = 100;
/** How long changes are gathered before they are read out. */
const ANNOUNCE_MS = 600;
/** How often "last seen" is reckoned anew. */
const TICK_MS = 1_000;

const WORDS = { online: "Online", idle: "Idle", dnd: "Do not disturb", offline: "Offline", unknown: "Unknown" };
const HERE = new Set(["online", "idle", "dnd"]);

const byId = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);

let names = [];
let me;
let client;
let monitor;
let watches = [];
let state = { state: "none" };
let retryAt = 0;
/** The server's clock minus this one's, in milliseconds. */
let clockOffset = 0;
const rows = new Map();

// ---- Who one is

async function start() {
  const answer = await fetch("/demo/config");
  const config = await answer.json();
  names = config.names;
  fillCast();
  setInterval(tick, TICK_MS);
  const name = query.get("name");
  if (name) enter(name);
  else showPicker();
}

function fillCast() {
  byId("cast").replaceChildren(
    ...names.map((name) => {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.pick = name;
      const face = document.createElement("span");
      face.className = "face";
      paintFace(face, name);
      face.textContent = initials(name);
      face.ariaHidden = "true";
      button.append(face, name);
      button.addEventListener("click", () => enter(name));
      const item = document.createElement("li");
      item.append(button);
      return item;
    }),
  );
}

function showPicker() {
  byId("room").hidden = true;
  byId("picker").hidden = false;
  document.title = "Herenow";
}

function enter(name) {
  me = name;
  const url = new URL(location.href);
  url.searchParams.set("name", name);
  history.replaceState(null, "", url);
  byId("another").href = url;
  byId("another-name").textContent = name;
  byId("you-name").textContent = name;
  byId("picker").hidden = true;
  byId("room").hidden = false;
  document.title = `${name} · Herenow`;
  rows.clear();
  byId("people").replaceChildren();
  byId("log").replaceChildren();
  byId("log-empty").hidden = false;
  byId("status-form").reset();
  connect();
  watch([...new Set([me, ...names])]);
}

function exit() {
  leave();
  const url = new URL(location.href);
  url.searchParams.delete("name");
  history.replaceState(null, "", url);
  showPicker();
}

// ---- The connection

function connect() {
  client = new HerenowClient({ url: "/v1/connect", token: fetchToken, device: deviceId(), kind: "web" });
  client.on("state", showState);
  client.on("error", (error) => say(`${error.message} ${error.remediation}`));
  monitor = new ActivityMonitor(client, { idleAfterMs: Number(query.get("idle") ?? IDLE_AFTER_S) * 1_000 });
  client.connect();
  byId("leave").textContent = "Leave";
}

/** Goodbye: the others see it at once. A tab that is closed or reloaded says nothing, and has the grace period. */
function leave() {
  monitor?.stop();
  for (const one of watches) one.close();
  watches = [];
  client?.close();
  forget();
}

/** Who does not watch, does not know. */
function forget() {
  const asOf = new Date(Date.now() + clockOffset).toISOString();
  for (const entry of rows.values()) {
    if (entry.presence === undefined) continue;
    entry.presence = {
      ...entry.presence,
      status: "unknown",
      asOf,
      text: undefined,
      emoji: undefined,
      invisible: undefined,
    };
    show(entry);
  }
}

async function fetchToken() {
  const answer = await fetch("/demo/token", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ name: me }),
  });
  if (!answer.ok) throw new Error(`the token call answered ${answer.status}`);
  return (await answer.json()).token;
}

/** One installation is one device, however many of its tabs are open. */
function deviceId() {
  try {
    const id = localStorage.getItem("herenow.device") ?? crypto.randomUUID();
    localStorage.setItem("herenow.device", id);
    return id;
  } catch {
    return undefined;
  }
}

function showState(event) {
  if (state.state === "open" && event.state === "reconnecting") log("This tab", "connected", "cut off");
  if (state.state === "reconnecting" && event.state === "open") log("This tab", "cut off", "connected");
  state = event;
  retryAt = performance.now() + (event.retryInMs ?? 0);
  if (event.state === "open") clockOffset = Date.parse(client.session.serverTime) - Date.now();
  byId("connection").dataset.connection = event.state;
  const left = event.state === "closed";
  byId("leave").textContent = left ? "Come back" : "Leave";
  say(
    left && event.reason && event.reason.code !== "closed" ? `${event.reason.message} ${event.reason.remediation}` : "",
  );
  tellConnection();
}

function tellConnection() {
  const wait = Math.ceil((retryAt - performance.now()) / 1_000);
  const words = {
    none: "Not connected",
    connecting: "Connecting",
    open: "Connected",
    reconnecting: wait > 1 ? `Reconnecting in ${wait} s` : "Reconnecting",
    closed: "Not connected",
  };
  setText(byId("connection-text"), words[state.state]);
}

// ---- The others

function watch(users) {
  for (const user of users) if (!rows.has(user)) addRow(user);
  watches.push(client.watch(users, showPresence));
}

function addRow(user) {
  const row = byId("row-template").content.cloneNode(true).firstElementChild;
  const part = (name) => row.querySelector(`.${name}`);
  paintFace(part("face"), user);
  part("initials").textContent = initials(user);
  part("name").textContent = user;
  part("you-tag").hidden = user !== me;
  row.dataset.user = user;
  row.dataset.status = "unknown";
  part("status-word").textContent = "Waiting";
  rows.set(user, { row, part, presence: undefined, known: undefined });
  byId("people").append(row);
}

function showPresence(presence, previous) {
  const entry = rows.get(presence.userId);
  if (entry === undefined) return;
  entry.presence = presence;
  show(entry);
  if (previous === undefined) entry.known = presence.status;
  else compare(entry);
}

/** Tells what is different from what was last known. That the connection is cut is one thing, not one a person. */
function compare(entry) {
  const { presence, known } = entry;
  if (presence.status === "unknown" && state.state !== "open") return;
  entry.known = presence.status;
  if (known !== undefined && known !== presence.status) happened(presence.userId, known, presence.status);
}

function show(entry) {
  const { row, part, presence } = entry;
  row.dataset.status = presence.status;
  row.dataset.invisible = String(presence.invisible === true);
  part("invisible-tag").hidden = presence.invisible !== true;
  setText(part("status-word"), WORDS[presence.status]);
  const text = [presence.emoji, presence.text].filter(Boolean).join(" ");
  setText(part("text"), text);
  part("text").hidden = text === "";
  showSince(entry);
  showSummary();
  if (presence.userId === me) showMe(presence);
}

function showSince({ part, presence }) {
  if (presence !== undefined) setText(part("status-since"), sinceText(presence));
}

function sinceText({ status, lastUpdated, asOf }) {
  if (status === "unknown") return asOf ? `last known ${ago(asOf)}` : "not known yet";
  if (status === "offline") return lastUpdated ? `last seen ${ago(lastUpdated)}` : "never seen";
  return lastUpdated ? `for ${span(lastUpdated)}` : "";
}

function showSummary() {
  const known = [...rows.values()].map((entry) => entry.presence).filter(Boolean);
  const here = known.filter((presence) => HERE.has(presence.status) && !presence.invisible);
  const unknown = known.filter((presence) => presence.status === "unknown").length;
  const count = here.length;
  const words = count === 0 ? "Nobody is here" : count === 1 ? "One person is here" : `${count} people are here`;
  setText(byId("headline"), unknown > 0 && count === 0 ? "Who is here, nobody can say" : words);
  const away = known.length - count - unknown;
  const parts = [away > 0 && `${away} away`, unknown > 0 && `${unknown} unknown`];
  setText(byId("summary"), parts.filter(Boolean).join(", "));
}

function showMe(presence) {
  const words = WORDS[presence.status].toLowerCase();
  const text = presence.invisible
    ? `You are ${words}, and look offline to everybody else.`
    : `Everybody sees you as ${words}.`;
  const gone = presence.status === "offline" || presence.status === "unknown";
  setText(byId("you-line"), gone ? "You are not connected." : text);
  const shown = presence.invisible ? "invisible" : presence.status === "dnd" ? "dnd" : "auto";
  const choice = byId("status-form").querySelector(`input[value="${shown}"]`);
  if (!gone && choice) choice.checked = true;
}

// ---- What happened

const toSay = new Map();
let announcing;

function happened(user, from, to) {
  log(user, WORDS[from].toLowerCase(), WORDS[to].toLowerCase()).dataset.transition = `${user}:${from}>${to}`;
  pulse(rows.get(user).row);
  toSay.set(user, `${user} is ${WORDS[to].toLowerCase()}`);
  // The last of each person, read out together: a busy moment is one sentence.
  announcing ??= setTimeout(announce, ANNOUNCE_MS);
}

function log(who, from, to) {
  const item = byId("log-template").content.cloneNode(true).firstElementChild;
  const now = new Date();
  item.querySelector("time").textContent = now.toLocaleTimeString([], {
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
    hour12: false,
  });
  item.querySelector("time").dateTime = now.toISOString();
  item.querySelector(".log-who").textContent = who;
  item.querySelector(".log-from").textContent = from;
  item.querySelector(".log-to").textContent = to;
  byId("log").prepend(item);
  byId("log-empty").hidden = true;
  while (byId("log").childElementCount > LOG_ENTRIES) byId("log").lastElementChild.remove();
  return item;
}

function pulse(row) {
  row.classList.remove("changed");
  void row.offsetWidth; // A layout in between, or the animation does not begin anew.
  row.classList.add("changed");
}

function announce() {
  byId("announcer").textContent = `${[...toSay.values()].join(", ")}.`;
  toSay.clear();
  announcing = undefined;
}

// ---- What one sets

async function setStatus() {
  const form = byId("status-form");
  const status = form.elements.status.value;
  const text = form.elements.text.value.trim();
  say("");
  try {
    await client.setStatus({ status, ...(text !== "" && { text }) });
  } catch (error) {
    say(`${error.message} ${error.remediation ?? ""}`);
  }
}

function say(message) {
  setText(byId("status-message"), message);
}

// ---- Small things

function tick() {
  for (const entry of rows.values()) showSince(entry);
  tellConnection();
}

/** Writes only what differs: a reader of screens is not told the same twice. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function ago(time) {
  const words = span(time);
  return words === "a moment" ? "just now" : `${words} ago`;
}

function span(time) {
  const seconds = Math.max(0, Math.round((Date.now() + clockOffset - Date.parse(time)) / 1_000));
  if (seconds < 2) return "a moment";
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3_600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

function initials(name) {
  const words = name.trim().split(/\s+/);
  const first = (word) => [...word][0] ?? "";
  return (
    words.length > 1 ? first(words[0]) + first(words.at(-1)) : [...name.trim()].slice(0, 2).join("")
  ).toUpperCase();
}

/** A hue of one's own, the same everywhere. */
function paintFace(face, name) {
  let hash = 7;
  for (const character of name) hash = (hash * 31 + character.codePointAt(0)) % 9_973;
  face.style.setProperty("--hue", String((hash * 47) % 360));
}

byId("pick-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = byId("pick-name").value.trim();
  if (name !== "") enter(name);
});
byId("watch-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = byId("watch-name").value.trim();
  event.target.reset();
  if (name !== "" && !rows.has(name)) watch([name]);
});
byId("status-form").addEventListener("submit", (event) => {
  event.preventDefault();
  void setStatus();
});
byId("status-form").addEventListener("change", (event) => {
  if (event.target.name === "status") void setStatus();
});
byId("leave").addEventListener("click", () => {
  if (client.state !== "closed") {
    leave();
    return;
  }
  const users = [...rows.keys()];
  connect();
  watch(users);
});
byId("switch").addEventListener("click", exit);

start().catch((error) => {
  byId("connection-text").textContent = "The service does not answer";
  throw error;
});
