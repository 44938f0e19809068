// Every number with a name. Those of the protocol are the same in protocol/src/limit.rs.

/** Most bytes of a user id. */
export const USER_ID_BYTES = 128;
/** Most users named in one frame. */
export const USERS_PER_FRAME = 1_000;
/** Most bytes of user ids in one frame, as JSON: the 64 KiB of a frame with room for the rest of it. */
export const USERS_BYTES_PER_FRAME = 60 * 1_024;
/** Most requests sent and not answered; a gateway takes 16 of a session by default. */
export const REQUESTS_IN_FLIGHT = 8;
/** Most requests a program may leave waiting. */
export const REQUESTS_WAITING = 1_000;
/** How long a request waits for its answer, connecting included, in milliseconds. */
export const REQUEST_TIMEOUT_MS = 10_000;
/** How long an opening handshake may take until `welcome`, in milliseconds. */
export const CONNECT_TIMEOUT_MS = 10_000;
/** How long a refused `watch` waits before it is sent again when the gateway names no time, in milliseconds. */
export const WATCH_RETRY_MS = 1_000;
/** The longest such wait, whatever the gateway names: other requests wait behind it. */
export const WATCH_RETRY_CAP_MS = 5_000;
/** How long the application may take to give a token, in milliseconds. */
export const TOKEN_TIMEOUT_MS = 30_000;
/** The first step of the back-off, in milliseconds. */
export const BACKOFF_BASE_MS = 500;
/** How long a change of activity waits after one was just said, in milliseconds. */
export const ACTIVITY_WINDOW_MS = 250;
/** The longest back-off, and how long a connection must last for the back-off to begin anew, in milliseconds. */
export const BACKOFF_CAP_MS = 30_000;
/** The shortest wait that a refusal is believed to ask for, so that no gateway is hammered, in milliseconds. */
export const TOLD_SHORTEST_MS = 1_000;
/** The longest one, so that nobody is kept away for good, in milliseconds. */
export const TOLD_LONGEST_MS = 300_000;
/** Most bytes that are read of the answer to a refused handshake. */
export const REFUSAL_BYTES = 16 * 1_024;
/** Most bytes of a status text. */
export const STATUS_TEXT_BYTES = 256;
/** Most bytes of a status emoji. */
export const STATUS_EMOJI_BYTES = 64;
