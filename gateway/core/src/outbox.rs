//! What waits to be sent to one session. Changes of presence never wait here: they are a set of users, and are written
//! as they are at the moment the socket takes them.

use std::collections::VecDeque;

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

/// What waits for one session, in order.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    items: VecDeque<Item>,
    /// Of the whole frames among them.
    bytes: usize,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(crate) fn push_front(&mut self, item: Item) {
        self.items.push_front(item);
    }

    pub(crate) fn push_back(&mut self, item: Item) {
        self.items.push_back(item);
    }

    pub(crate) fn pop_front(&mut self) -> Option<Item> {
        let item = self.items.pop_front();
        if let Some(Item::Frame(text)) = &item {
            self.bytes -= text.len();
        }
        item
    }
}

impl Session {
    /// Puts a frame into the outbox; false when the session reads too slowly for it.
    pub(crate) fn post(&mut self, frame: &ServerFrame, most: usize) -> bool {
        let text = encode(frame);
        let outbox = self.outbox.get_or_insert_default();
        if outbox.bytes + text.len() > most {
            return false;
        }
        outbox.bytes += text.len();
        outbox.push_back(Item::Frame(text));
        true
    }
}
