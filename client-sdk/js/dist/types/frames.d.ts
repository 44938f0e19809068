import type { Activity, DeviceKind, ManualStatus, Presence } from "./types.js";
/** The subprotocol that carries the frames. */
export declare const SUBPROTOCOL = "herenow.v1.json";
/** What stands before a token in a second subprotocol entry. */
export declare const BEARER_PREFIX = "bearer.";
/** A frame to the gateway. */
export type ClientFrame = {
    type: "auth";
    token: string;
    device?: string;
    kind?: DeviceKind;
    activity?: Activity;
    id?: number;
} | {
    type: "heartbeat";
    activity?: Activity;
    id?: number;
} | {
    type: "watch" | "unwatch" | "query";
    id: number;
    users: string[];
} | {
    type: "status";
    id: number;
    status: ManualStatus;
    text?: string;
    emoji?: string;
    expiresAt?: string;
} | {
    type: "bye";
};
/** What a client is told when its session opens. */
export interface Welcome {
    readonly type: "welcome";
    readonly session: string;
    readonly userId: string;
    readonly heartbeatIntervalMs: number;
    readonly heartbeatTimeoutMs: number;
    readonly idleAfterMs: number;
    readonly freshForMs: number;
    readonly serverTime: string;
}
/** A frame from the gateway. */
export type ServerFrame = Welcome | {
    type: "snapshot";
    id: number;
    users: Presence[];
    complete: boolean;
} | {
    type: "presence";
    users: Presence[];
} | {
    type: "ack";
    id: number;
} | {
    type: "error";
    id?: number;
    code: string;
    message: string;
    remediation: string;
    retryAfterMs?: number;
} | {
    type: "token_expiring";
    expiresAt: string;
} | {
    type: "reconnect";
    afterMs: number;
    withinMs: number;
    reason: string;
};
/** The fields of a frame as callers have them: absent ones may be `undefined`, times may be dates. */
type FieldsOf<T extends ClientFrame["type"]> = {
    [K in keyof Omit<Extract<ClientFrame, {
        type: T;
    }>, "type">]: Extract<ClientFrame, {
        type: T;
    }>[K] | (K extends "expiresAt" ? Date : never) | undefined;
};
/**
 * Makes a frame: `type` first, absent fields left out, times in UTC with milliseconds.
 * @throws HerenowError `invalid_value` when a time is none.
 */
export declare function clientFrame<T extends ClientFrame["type"]>(type: T, fields: Partial<FieldsOf<T>>): Extract<ClientFrame, {
    type: T;
}>;
/** Reads a frame. What this version does not know, or cannot read, is `undefined`: it is ignored. */
export declare function parseServerFrame(text: string): ServerFrame | undefined;
/**
 * Checks a user id.
 * @throws HerenowError `invalid_user_id`.
 */
export declare function checkUserId(userId: string): void;
/** Cuts a list of users into pieces that each fit a frame, by count and by bytes. */
export declare function pages(users: Iterable<string>): string[][];
export {};
