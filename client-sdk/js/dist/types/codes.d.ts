/** What a client should do about a close. */
export type Duty = "done" | "reconnect" | "renew_token" | "stay";
interface CloseFacts {
    readonly code: string;
    readonly message: string;
    readonly remediation: string;
}
/** What to do about any close code, also one never seen. A connection that ends without one has 1006. */
export declare function closeDuty(code: number): Duty;
/** What a close code means, for people and programs; `undefined` for one never seen. */
export declare function closeFacts(code: number): CloseFacts | undefined;
export {};
