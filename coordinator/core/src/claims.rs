//! Claims: statuses asserted by a user or a backend, with an optional end.

use herenow_protocol::frame::ManualStatus;
use herenow_protocol::message::ApiStatus;
use herenow_protocol::{MonoTime, WallTime};

/// A status asserted by a source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim<S> {
    /// What is to be shown.
    pub status: S,
    /// The text beside it.
    pub text: Option<Box<str>>,
    /// The emoji beside it.
    pub emoji: Option<Box<str>>,
    /// When it ends by itself, by this process's clock.
    pub until: Option<MonoTime>,
    /// The same for people.
    pub expires_at: Option<WallTime>,
}

impl<S> Claim<S> {
    /// A claim without words or end.
    pub const fn plain(status: S) -> Self {
        Self { status, text: None, emoji: None, until: None, expires_at: None }
    }

    fn in_force(&self, now: MonoTime) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// The claims of one user: per source the newest.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Claims {
    /// Of the user itself.
    pub manual: Option<Claim<ManualStatus>>,
    /// Of backends.
    pub api: Option<Claim<ApiStatus>>,
}

impl Claims {
    /// The manual claim, if in force.
    #[must_use]
    pub fn manual(&self, now: MonoTime) -> Option<&Claim<ManualStatus>> {
        self.manual.as_ref().filter(|claim| claim.in_force(now))
    }

    /// The API claim, if in force.
    #[must_use]
    pub fn api(&self, now: MonoTime) -> Option<&Claim<ApiStatus>> {
        self.api.as_ref().filter(|claim| claim.in_force(now))
    }

    /// What is said beside the status: by the user, else by a backend.
    #[must_use]
    pub fn words(&self, now: MonoTime) -> (Option<Box<str>>, Option<Box<str>>) {
        let manual = self.manual(now).map(|claim| (claim.text.clone(), claim.emoji.clone()));
        let manual = manual.filter(|(text, emoji)| text.is_some() || emoji.is_some());
        let api = || self.api(now).map(|claim| (claim.text.clone(), claim.emoji.clone()));
        manual.or_else(api).unwrap_or_default()
    }

    /// When the next claim ends by itself.
    #[must_use]
    pub fn next_end(&self) -> Option<MonoTime> {
        let manual = self.manual.as_ref().and_then(|claim| claim.until);
        let api = self.api.as_ref().and_then(|claim| claim.until);
        manual.into_iter().chain(api).min()
    }

    /// Forgets what has ended; true when something had.
    pub fn prune(&mut self, now: MonoTime) -> bool {
        let before = (self.manual.is_some(), self.api.is_some());
        self.manual = self.manual.take().filter(|claim| claim.in_force(now));
        self.api = self.api.take().filter(|claim| claim.in_force(now));
        before != (self.manual.is_some(), self.api.is_some())
    }

    /// Nothing is claimed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.manual.is_none() && self.api.is_none()
    }
}
