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
