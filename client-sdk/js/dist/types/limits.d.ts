/** Most bytes of a user id. */
export declare const USER_ID_BYTES = 128;
/** Most users named in one frame. */
export declare const USERS_PER_FRAME = 1000;
/** Most bytes of user ids in one frame, as JSON: the 64 KiB of a frame with room for the rest of it. */
export declare const USERS_BYTES_PER_FRAME: number;
/** Most requests sent and not answered; a gateway takes 16 of a session by default. */
export declare const REQUESTS_IN_FLIGHT = 8;
/** Most requests a program may leave waiting. */
export declare const REQUESTS_WAITING = 1000;
/** How long a request waits for its answer, connecting included, in milliseconds. */
export declare const REQUEST_TIMEOUT_MS = 10000;
/** How long an opening handshake may take until `welcome`, in milliseconds. */
export declare const CONNECT_TIMEOUT_MS = 10000;
/** How long a refused `watch` waits before it is sent again when the gateway names no time, in milliseconds. */
export declare const WATCH_RETRY_MS = 1000;
/** The longest such wait, whatever the gateway names: other requests wait behind it. */
export declare const WATCH_RETRY_CAP_MS = 5000;
/** How long the application may take to give a token, in milliseconds. */
export declare const TOKEN_TIMEOUT_MS = 30000;
/** The first step of the back-off, in milliseconds. */
export declare const BACKOFF_BASE_MS = 500;
/** How long a change of activity waits after one was just said, in milliseconds. */
export declare const ACTIVITY_WINDOW_MS = 250;
/** The longest back-off, and how long a connection must last for the back-off to begin anew, in milliseconds. */
export declare const BACKOFF_CAP_MS = 30000;
/** The shortest wait that a refusal is believed to ask for, so that no gateway is hammered, in milliseconds. */
export declare const TOLD_SHORTEST_MS = 1000;
/** The longest one, so that nobody is kept away for good, in milliseconds. */
export declare const TOLD_LONGEST_MS = 300000;
/** Most bytes that are read of the answer to a refused handshake. */
export declare const REFUSAL_BYTES: number;
/** Most bytes of a status text. */
export declare const STATUS_TEXT_BYTES = 256;
/** Most bytes of a status emoji. */
export declare const STATUS_EMOJI_BYTES = 64;
