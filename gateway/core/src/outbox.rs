//! What waits to be sent to one session. Changes of presence never wait here: they are a set of users, and are written
//! as they are at the moment the socket takes them.

use herenow_protocol::frame::{ServerFrame, encode};
use herenow_protocol::{Presence, UserId, UserKey};

use crate::session::Session;

/// Users in one `snapshot` or `presence` frame, so that a frame stays near 32 KiB.
pub(crate) const USERS_PER_FRAME: usize = 200;

/// Something that waits.
#[derive(Debug)]
pub(crate) enum Item {
    /// A whole frame.
    Frame(String),
    /// The answer to a `watch`: values are looked up when they are sent.
    Watched {
        /// Of the frame.
        id: u64,
        /// Whom it asked for.
        users: Vec<(UserId, UserKey)>,
        /// How many have been sent.
        sent: usize,
    },
    /// The answer to a `query`.
    Queried {
        /// Of the frame.
        id: u64,
        /// The values.
        users: Vec<Presence>,
        /// How many have been sent.
        sent: usize,
    },
}

impl Session {
    /// Puts a frame into the outbox; false when the session reads too slowly for it.
    pub(crate) fn post(&mut self, frame: &ServerFrame, most: usize) -> bool {
        let text = encode(frame);
        if self.outbox_bytes + text.len() > most {
            return false;
        }
        self.outbox_bytes += text.len();
        self.outbox.push_back(Item::Frame(text));
        true
    }
}
