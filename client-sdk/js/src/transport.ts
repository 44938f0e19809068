import { failure } from "./errors.js";
import { BEARER_PREFIX, clientFrame, SUBPROTOCOL } from "./frames.js";
import type { ClientFrame } from "./frames.js";
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
}

/** A class of WebSockets. */
export type WebSocketClass = new (url: string, protocols?: string[]) => WebSocketLike;

/** What a socket tells of itself. Nothing more comes after `closed`, or after {@link Transport.drop}. */
export interface TransportEvents {
  text(text: string): void;
  closed(code: number, detail: string): void;
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

/** One WebSocket. It knows nothing of presence. */
export class Transport {
  readonly #socket: WebSocketLike;
  #detail = "";

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
  }

  /** Sends a frame; without effect while the socket is not open. */
  send(frame: ClientFrame): void {
    if (this.#socket.readyState === OPEN) this.#socket.send(JSON.stringify(frame));
  }

  /** Lets go of the socket. What was sent before still goes out. */
  drop(): void {
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
