/** What every error carries: a stable code for programs, a message for people, and what to do about it. */
export class HerenowError extends Error {
  override readonly name = "HerenowError";
  /** A stable word, as in docs/CODES.md, or one of this client's own. */
  readonly code: string;
  /** What the caller can do. */
  readonly remediation: string;
  /** When trying again makes sense, in milliseconds. */
  readonly retryAfterMs: number | undefined;

  constructor(
    code: string,
    message: string,
    remediation: string,
    options: { retryAfterMs?: number | undefined; cause?: unknown } = {},
  ) {
    super(message, "cause" in options ? { cause: options.cause } : undefined);
    this.code = code;
    this.remediation = remediation;
    this.retryAfterMs = options.retryAfterMs;
  }
}

/** The errors that begin in this client and not at the gateway. */
export const failure = {
  noWebSocket: () =>
    new HerenowError(
      "no_websocket",
      "This runtime has no global WebSocket.",
      "Pass one as the `WebSocket` option, for example the class of the npm package `ws`.",
    ),
  invalidOption: (message: string) => new HerenowError("invalid_option", message, "See the options of HerenowClient."),
  invalidUserId: (message: string) =>
    new HerenowError("invalid_user_id", message, "User ids have 1 to 128 bytes and no control characters."),
  invalidValue: (message: string) =>
    new HerenowError("invalid_value", message, "Keep the value within the range the message names."),
  tokenFailed: (cause: unknown) =>
    new HerenowError(
      "token_failed",
      `The token callback failed: ${describe(cause)}`,
      "Make `token` return a fresh token; the client tries again by itself.",
      { cause },
    ),
  connectFailed: (detail: string, retryAfterMs?: number) =>
    new HerenowError(
      "connect_failed",
      `The connection could not be opened${detail}.`,
      "Check the URL, the token and the page's origin; the client tries again by itself.",
      { retryAfterMs },
    ),
  connectionLost: (detail: string) =>
    new HerenowError(
      "connection_lost",
      `The connection was lost${detail}.`,
      "Nothing: the client comes back by itself.",
    ),
  heartbeatTimeout: () =>
    new HerenowError(
      "heartbeat_timeout",
      "Nothing was heard for the heartbeat timeout.",
      "Nothing: the client comes back by itself.",
    ),
  moving: (reason: string) =>
    new HerenowError(
      "reconnect",
      `The gateway asked this client to move: ${reason}.`,
      "Nothing: the client comes back by itself.",
    ),
  requestTimeout: () =>
    new HerenowError("timeout", "No answer came in time.", "Try again; see `client.state` for the connection."),
  tooManyRequests: (limit: number) =>
    new HerenowError(
      "too_many_requests",
      `${limit} requests are waiting for an answer.`,
      "Wait for earlier requests to be answered.",
    ),
  closed: () => new HerenowError("closed", "The client is closed.", "Call `connect()` again."),
};

function describe(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
