//! Who users are, and questions about everybody.

use std::time::Duration;

use futures::future::BoxFuture;
use herenow_protocol::{Status, UserId, UserKey, WallTime};

use crate::{Span, StoreError};

/// Most bytes of a name.
const USERNAME: usize = 256;
/// Most bytes of an address, as RFC 5321 has it: 64 before the @ and 255 behind.
const EMAIL: usize = 320;

/// Who a user is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UserDetails {
    /// The user.
    pub user: UserId,
    /// The name: 1 to 256 bytes without control characters.
    pub username: String,
    /// The address: 3 to 320 bytes with an @ and without control characters.
    pub email: String,
    /// Since when there is an account.
    pub created: WallTime,
}

impl UserDetails {
    /// Checks every field.
    ///
    /// # Errors
    /// [`StoreError::Setting`]: the first field that cannot be right, and what it must be.
    pub fn check(&self) -> Result<(), StoreError> {
        let plain = |text: &str| !text.chars().any(char::is_control);
        let (name, email) = (&self.username, &self.email);
        let must = |holds: bool, key, reason: &str| {
            if holds { Ok(()) } else { Err(StoreError::Setting { key, reason: reason.to_owned() }) }
        };
        let name_is_right = (1..=USERNAME).contains(&name.len()) && plain(name);
        let email_is_right = (3..=EMAIL).contains(&email.len()) && plain(email) && email.contains('@');
        must(name_is_right, "username", "must be 1 to 256 bytes without control characters")?;
        must(email_is_right, "email", "must be 3 to 320 bytes with an @ and without control characters")
    }
}

/// Keeps who users are. Not needed for presence.
pub trait People: Send + Sync {
    /// Writes who users are, over what was there; of one user in a call the last. All of them or none; at most
    /// [`crate::BATCH`]. [`StoreError::Setting`] names the field of one that cannot be right.
    fn put(&self, users: Vec<UserDetails>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Who a user is.
    fn get<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<Option<UserDetails>, StoreError>>;

    /// Forgets who a user is. The history is erased by its own call.
    fn forget<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// How many users were there in an hour.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct HourOnline {
    /// When the hour began.
    pub hour: WallTime,
    /// The most at the same time.
    pub peak: u64,
    /// On average over the part of the hour that was asked for.
    pub average: f64,
}

/// How many sessions were opened in an hour, by kind of device. One that opened while its user was there counts when the
/// user's status changed next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HourSessions {
    /// When the hour began.
    pub hour: WallTime,
    /// In browsers.
    pub web: u64,
    /// On phones and tablets.
    pub mobile: u64,
    /// In programs on desktops.
    pub desktop: u64,
    /// By servers, virtual sessions among them.
    pub server: u64,
}

/// Answers questions about everybody, from the history. [`StoreError::Setting`] names what of a question cannot be.
pub trait Analytics: Send + Sync {
    /// How many users had which status at a moment; "now" is the moment that it is.
    fn statuses_at(&self, at: WallTime) -> BoxFuture<'_, Result<Vec<(Status, u64)>, StoreError>>;

    /// Who was there at a moment, and how: in the order of ids, at most [`crate::PAGE`], behind `after` where it is given.
    fn who_was_there(
        &self,
        at: WallTime,
        after: Option<UserId>,
    ) -> BoxFuture<'_, Result<Vec<(UserId, Status)>, StoreError>>;

    /// How many users were there in each hour of a span of at most 31 days, which ends at the latest now.
    fn online_per_hour(&self, span: Span) -> BoxFuture<'_, Result<Vec<HourOnline>, StoreError>>;

    /// How long a user was there on each day, as UTC has days, of a span of at most 366 days, which ends at the latest
    /// now. Days without any are left out.
    fn time_online(
        &self,
        key: UserKey,
        span: Span,
    ) -> BoxFuture<'_, Result<Vec<(WallTime, Duration)>, StoreError>>;

    /// How many transitions there were in each minute of a span of at most a day. Minutes without any are left out.
    fn transitions_per_minute(&self, span: Span) -> BoxFuture<'_, Result<Vec<(WallTime, u64)>, StoreError>>;

    /// How many sessions were opened in each hour of a span of at most 31 days, by kind of device. Hours without any are
    /// left out.
    fn sessions_by_device(&self, span: Span) -> BoxFuture<'_, Result<Vec<HourSessions>, StoreError>>;
}
