/** What a client should do about a close. */
export type Duty = "done" | "reconnect" | "renew_token" | "stay";

interface CloseFacts {
  readonly code: string;
  readonly message: string;
  readonly remediation: string;
}

const COMES_BACK = "Nothing: the client comes back by itself.";

const FACTS: ReadonlyMap<number, CloseFacts> = new Map([
  [1000, { code: "bye", message: "The session was ended.", remediation: "Call `connect()` to begin another." }],
  [
    1002,
    {
      code: "protocol_error",
      message: "A frame broke the WebSocket protocol.",
      remediation: "Look for a proxy that changes frames.",
    },
  ],
  [1003, { code: "binary_frame", message: "A binary frame was sent.", remediation: "Send text frames only." }],
  [
    1007,
    { code: "invalid_utf8", message: "A frame was not UTF-8.", remediation: "Look for a proxy that changes frames." },
  ],
  [
    1008,
    {
      code: "too_many_fragments",
      message: "A frame came in too many fragments.",
      remediation: "Look for a proxy that splits frames.",
    },
  ],
  [1009, { code: "frame_too_big", message: "A frame was over 64 KiB.", remediation: "Name fewer users a call." }],
  [4000, { code: "shutdown", message: "The gateway shuts down.", remediation: COMES_BACK }],
  [
    4001,
    {
      code: "heartbeat_timeout",
      message: "The gateway heard nothing for the heartbeat timeout.",
      remediation: COMES_BACK,
    },
  ],
  [4002, { code: "slow_consumer", message: "This client did not read what it was sent.", remediation: COMES_BACK }],
  [4003, { code: "gateway_full", message: "The gateway holds as many sessions as it may.", remediation: COMES_BACK }],
  [
    4004,
    {
      code: "rate_limited",
      message: "This client sent more frames than the gateway accepts.",
      remediation: "Call less often; the client comes back by itself.",
    },
  ],
  [
    4401,
    {
      code: "token_expired",
      message: "The token ran out.",
      remediation: "Make `token` return a fresh token; the client comes back by itself.",
    },
  ],
  [4408, { code: "auth_timeout", message: "No token came in time.", remediation: COMES_BACK }],
  [
    4501,
    {
      code: "unauthorized",
      message: "The token is not accepted.",
      remediation: "Get a token signed for this service, then call `connect()`.",
    },
  ],
  [
    4502,
    { code: "user_changed", message: "The new token names another user.", remediation: "Use one client per user." },
  ],
  [
    4503,
    {
      code: "user_sessions",
      message: "The user has as many sessions as it may.",
      remediation: "Close other sessions of the user, then call `connect()`.",
    },
  ],
]);

/** What to do about any close code, also one never seen. A connection that ends without one has 1006. */
export function closeDuty(code: number): Duty {
  if (code === 1000) return "done";
  if (code === 4401) return "renew_token";
  if ([1002, 1003, 1007, 1008, 1009].includes(code) || (code >= 4500 && code <= 4999)) return "stay";
  return "reconnect";
}

/** What a close code means, for people and programs; `undefined` for one never seen. */
export function closeFacts(code: number): CloseFacts | undefined {
  return FACTS.get(code);
}
