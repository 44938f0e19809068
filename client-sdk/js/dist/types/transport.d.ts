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
/** What a connection that ended without a close frame has. */
export declare const NO_CLOSE_FRAME = 1006;
/** One WebSocket. It knows nothing of presence. */
export declare class Transport {
    #private;
    constructor(Socket: WebSocketClass, target: Target, events: TransportEvents);
    /** Sends a frame; without effect while the socket is not open. */
    send(frame: ClientFrame): void;
    /** Lets go of the socket. What was sent before still goes out. */
    drop(): void;
}
/**
 * The address of the service as a WebSocket address: `https` becomes `wss`, no path becomes `/v1/connect`, and in a
 * browser the page's own address completes a relative one.
 * @throws HerenowError `invalid_option`.
 */
export declare function serviceUrl(text: string | URL): URL;
export {};
