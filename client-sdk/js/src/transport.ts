import { failure } from "./errors.js";
import { BEARER_PREFIX, clientFrame, SUBPROTOCOL } from "./frames.js";
import type { ClientFrame } from "./frames.js";
import { REFUSAL_BYTES } from "./limits.js";
import type { Activity, DeviceKind } from "./types.js";

/** As much of a WebSocket as this client uses; the class of browsers and that of the npm package `ws` both fit. */
export interface WebSocketLike {
  readonly readyState: number;
  send(data: string): void;
  close(code?: number): void;
  onopen: ((event: never) => unknown) | null;
  onmessage: ((event: never) => unknown) | null;
  onerror: ((event: never) => unknown) | null;
  onclose: ((event: never) => unknown) | null;
  /** Only the class of `ws` has it, and shows by it what a handshake was answered with; those of browsers do not. */
  on?(event: "unexpected-response", listener: (request: unknown, response: RefusalLike) => void): unknown;
}

/** As much of an HTTP answer as is read of a refusal. */
interface RefusalLike {
  readonly statusCode?: number | undefined;
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  on(event: "data", listener: (piece: Uint8Array) => void): unknown;
  on(event: "end" | "error", listener: () => void): unknown;
}

/** A class of WebSockets. */
export type WebSocketClass = new (url: string, protocols?: string[]) => WebSocketLike;

/** What a socket tells of itself. Nothing more comes after `closed`, or after {@link Transport.drop}. */
export interface TransportEvents {
  text(text: string): void;
  closed(code: number, detail: string, retryAfterMs?: number): void;
}

/** Who is connecting, and where to. */
export interface Target {
  readonly url: URL;
  readonly token: string;
  readonly device: string | undefined;
  readonly kind: DeviceKind | undefined;
  readonly activity: Activity | undefined;
}

const OPEN = 1;
/** What a connection that ended without a close frame has. */
export const NO_CLOSE_FRAME = 1006;

/** One WebSocket. It knows nothing of presence. */
export class Transport {
  readonly #socket: WebSocketLike;
  #detail = "";
  #dropped = false;

  constructor(Socket: WebSocketClass, target: Target, events: TransportEvents) {
    const asEntry = fitsSubprotocol(target.token);
    this.#socket = new Socket(address(target), asEntry ? [SUBPROTOCOL, BEARER_PREFIX + target.token] : [SUBPROTOCOL]);
    this.#socket.onopen = () => {
      if (!asEntry) this.send(clientFrame("auth", { token: target.token }));
    };
    this.#socket.onmessage = (event: { data: unknown }) => {
      if (typeof event.data === "string") events.text(event.data);
    };
    this.#socket.onerror = (event: { message?: unknown }) => {
      if (typeof event.message === "string") this.#detail = event.message;
    };
    this.#socket.onclose = (event: { code: number; reason: string }) => {
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
  send(frame: ClientFrame): void {
    if (this.#socket.readyState === OPEN) this.#socket.send(JSON.stringify(frame));
  }

  /** Lets go of the socket. What was sent before still goes out. */
  drop(): void {
    this.#dropped = true;
    this.#silence();
    this.#socket.close(1000);
  }

  #silence(): void {
    this.#socket.onopen = null;
    this.#socket.onmessage = null;
    this.#socket.onclose = null;
    // Never null: `ws` would throw the error of a handshake that was given up.
    this.#socket.onerror = () => {};
  }
}

/** Reads when a refusal says to come back: in its body, or more coarsely in its head. */
function readRefusal(response: RefusalLike, done: (retryAfterMs: number | undefined) => void): void {
  const pieces: Uint8Array[] = [];
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

function toldBy(pieces: readonly Uint8Array[]): number | undefined {
  const decoder = new TextDecoder();
  try {
    const text = pieces.map((piece) => decoder.decode(piece, { stream: true })).join("");
    const told: unknown = (JSON.parse(text) as { retryAfterMs?: unknown } | null)?.retryAfterMs;
    return typeof told === "number" && told >= 0 ? told : undefined;
  } catch {
    return undefined;
  }
}

function seconds(header: unknown): number | undefined {
  return typeof header === "string" && /^\d+$/.test(header) ? Number(header) * 1_000 : undefined;
}

/** A subprotocol entry is an RFC 9110 token. Another text goes into an `auth` frame. */
function fitsSubprotocol(token: string): boolean {
  return /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/.test(token);
}

function address(target: Target): string {
  const url = new URL(target.url);
  if (target.device !== undefined) url.searchParams.set("device", target.device);
  if (target.kind !== undefined) url.searchParams.set("kind", target.kind);
  if (target.activity !== undefined) url.searchParams.set("activity", target.activity);
  return url.href;
}

/**
 * The address of the service as a WebSocket address: `https` becomes `wss`, no path becomes `/v1/connect`, and in a
 * browser the page's own address completes a relative one.
 * @throws HerenowError `invalid_option`.
 */
export function serviceUrl(text: string | URL): URL {
  const base = (globalThis as { location?: { href: string } }).location?.href;
  let url: URL;
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
