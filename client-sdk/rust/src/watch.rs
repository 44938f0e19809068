//! The stream of changes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;
use herenow_client_core::Failure;
use herenow_protocol::{Presence, UserId};

use crate::client::ids;
use crate::hub::Hub;

/// A watched user's presence has visibly changed, or is told for the first time.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct PresenceChange {
    /// The latest value.
    pub presence: Presence,
}

/// A stream of changes of some users, made by [`crate::Client::watch`].
///
/// It begins with the present value of each user. It conflates: of several changes that were not read in time only the
/// latest of each user is told, so it holds at most one entry a user, however slowly it is read. Dropping it ends the
/// watch. It ends when the client is closed.
#[derive(Debug)]
pub struct Watch {
    hub: Arc<Hub>,
    reader: u64,
}

impl Watch {
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        let reader = hub.add_reader();
        Self { hub, reader }
    }

    /// Follows these users too.
    ///
    /// # Errors
    /// `invalid_user_id`, `too_many_watches`, `closed`; then none of them is added.
    pub fn add<I, U>(&self, users: I) -> Result<(), Failure>
    where
        I: IntoIterator<Item = U>,
        U: AsRef<str>,
    {
        self.hub.follow(self.reader, ids(users)?)
    }

    /// Follows these users no longer. Users whom it does not follow are ignored.
    pub fn remove<I, U>(&self, users: I)
    where
        I: IntoIterator<Item = U>,
        U: AsRef<str>,
    {
        let users: Vec<UserId> =
            users.into_iter().filter_map(|user| UserId::new(user.as_ref()).ok()).collect();
        self.hub.unfollow(self.reader, &users);
    }
}

impl Stream for Watch {
    type Item = PresenceChange;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<PresenceChange>> {
        let change = self.hub.poll_change(self.reader, cx);
        change.map(|presence| presence.map(|presence| PresenceChange { presence }))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.hub.drop_reader(self.reader);
    }
}
