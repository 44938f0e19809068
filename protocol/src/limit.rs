//! Limits that both sides of a wire must know. Limits of one program stand in its configuration.

/// Most bytes of a user id. Source: the public contract.
pub const USER_ID_BYTES: usize = 128;
/// Most bytes of a device id.
pub const DEVICE_ID_BYTES: usize = 64;
/// Most bytes of the name of a process: it becomes a token of subjects, and names are read by people.
pub const PROCESS_ID_BYTES: usize = 32;
/// Most bytes of a whole frame from a client, fragments together.
pub const FRAME_BYTES: usize = 64 * 1024;
/// Most fragments of one frame.
pub const FRAME_FRAGMENTS: usize = 16;
/// Most users named in one `watch`, `unwatch` or `query` frame, or in one batch request.
pub const USERS_PER_REQUEST: usize = 1_000;
/// Most bytes of a status text.
pub const STATUS_TEXT_BYTES: usize = 256;
/// Most bytes of a status emoji; the longest emoji sequences in use have 35.
pub const STATUS_EMOJI_BYTES: usize = 64;
/// Most bytes of a token. A larger one is refused unread.
pub const TOKEN_BYTES: usize = 4 * 1024;
/// Most bytes of a REST body: 1,000 ids of 128 bytes, each escaped and quoted, with room.
pub const BODY_BYTES: usize = 256 * 1024;
/// Most bytes of a message between roles; a quarter of what a NATS server takes by default.
pub const MESSAGE_BYTES: usize = 256 * 1024;
/// Most bytes of messages that are sent as one, unless one of them has more by itself: as much as a socket takes at once,
/// so that a long one is not waited for.
pub const BUNDLE_BYTES: usize = 64 * 1024;
/// Most entries of one page of a snapshot, so that a page stays well under [`MESSAGE_BYTES`] with full texts.
pub const SNAPSHOT_PAGE_ENTRIES: usize = 500;
/// Most sessions of one page of a sync, and most ended ones: together they stay under [`MESSAGE_BYTES`].
pub const SYNC_PAGE_SESSIONS: usize = 400;
/// Most users of one page of a partition listed to a backend.
pub const LIST_PAGE_USERS: usize = 1_000;
/// Most transitions of one message for the history: with the longest ids they stay under [`MESSAGE_BYTES`].
pub const HISTORY_ENTRIES: usize = 400;
