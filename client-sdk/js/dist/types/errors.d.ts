/** What every error carries: a stable code for programs, a message for people, and what to do about it. */
export declare class HerenowError extends Error {
    readonly name = "HerenowError";
    /** A stable word, as in docs/CODES.md, or one of this client's own. */
    readonly code: string;
    /** What the caller can do. */
    readonly remediation: string;
    /** When trying again makes sense, in milliseconds. */
    readonly retryAfterMs: number | undefined;
    constructor(code: string, message: string, remediation: string, options?: {
        retryAfterMs?: number | undefined;
        cause?: unknown;
    });
}
/** The errors that begin in this client and not at the gateway. */
export declare const failure: {
    noWebSocket: () => HerenowError;
    invalidOption: (message: string) => HerenowError;
    invalidUserId: (message: string) => HerenowError;
    invalidValue: (message: string) => HerenowError;
    tokenFailed: (cause: unknown) => HerenowError;
    connectFailed: (detail: string, retryAfterMs?: number) => HerenowError;
    connectionLost: (detail: string) => HerenowError;
    heartbeatTimeout: () => HerenowError;
    moving: (reason: string) => HerenowError;
    requestTimeout: () => HerenowError;
    tooManyRequests: (limit: number) => HerenowError;
    closed: () => HerenowError;
};
