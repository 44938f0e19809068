//! What the gateway still has to be told about the watch list. Adding and removing the same user many times costs
//! nothing but the last: what waits is a set of users, never a queue of calls.

use std::collections::BTreeSet;

use herenow_protocol::{MonoTime, UserId, limit};

/// Most bytes of the users of one frame, with room for the rest of it.
const PAGE_BYTES: usize = limit::FRAME_BYTES - 512;

/// A page of the watch list to be told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Page {
    Watch(Vec<UserId>),
    Unwatch(Vec<UserId>),
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Watches {
    to_watch: BTreeSet<UserId>,
    to_unwatch: BTreeSet<UserId>,
    /// Named in a `watch` frame of this connection.
    told: BTreeSet<UserId>,
    /// Not before this, after the gateway had no room.
    pub(crate) hold_until: Option<MonoTime>,
    /// How often in a row it had none.
    pub(crate) refusals: u32,
}

impl Watches {
    /// On a new connection everybody has to be named again.
    pub(crate) fn connected<'a>(&mut self, all: impl Iterator<Item = &'a UserId>) {
        *self = Self { to_watch: all.cloned().collect(), ..Self::default() };
    }

    pub(crate) fn cut(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn add(&mut self, user: UserId) {
        self.to_unwatch.remove(&user);
        self.to_watch.insert(user);
    }

    pub(crate) fn remove(&mut self, user: UserId) {
        self.to_watch.remove(&user);
        if self.told.contains(&user) {
            self.to_unwatch.insert(user);
        }
    }

    /// The next page, which counts as told from now on.
    pub(crate) fn next_page(&mut self, now: MonoTime) -> Option<Page> {
        if !self.to_unwatch.is_empty() {
            let users = page(&mut self.to_unwatch);
            for user in &users {
                self.told.remove(user);
            }
            return Some(Page::Unwatch(users));
        }
        if self.to_watch.is_empty() || self.hold_until.is_some_and(|until| until > now) {
            return None;
        }
        self.hold_until = None;
        let users = page(&mut self.to_watch);
        self.told.extend(users.iter().cloned());
        Some(Page::Watch(users))
    }

    pub(crate) fn poll_timeout(&self) -> Option<MonoTime> {
        self.hold_until.filter(|_| !self.to_watch.is_empty())
    }
}

fn page(from: &mut BTreeSet<UserId>) -> Vec<UserId> {
    let mut users = Vec::new();
    let mut bytes = 0;
    while let Some(user) = from.first() {
        bytes += json_bytes(user);
        if !users.is_empty() && (bytes > PAGE_BYTES || users.len() == limit::USERS_PER_REQUEST) {
            break;
        }
        users.extend(from.pop_first());
    }
    users
}

/// Cuts a list into what fits a frame each.
pub(crate) fn pages(users: Vec<UserId>) -> Vec<Vec<UserId>> {
    let mut pages = vec![Vec::new()];
    let mut bytes = 0;
    for user in users {
        bytes += json_bytes(&user);
        let page_full =
            pages.last().is_none_or(|page| bytes > PAGE_BYTES || page.len() == limit::USERS_PER_REQUEST);
        if page_full {
            bytes = json_bytes(&user);
            pages.push(Vec::new());
        }
        if let Some(page) = pages.last_mut() {
            page.push(user);
        }
    }
    pages
}

/// Bytes of an id as a JSON string and a comma. Ids have no control characters, so only two characters are escaped.
fn json_bytes(user: &UserId) -> usize {
    let escaped = user.as_str().bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count();
    user.as_str().len() + escaped + 3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(text: &str) -> UserId {
        UserId::new(text).unwrap()
    }

    #[test]
    fn a_page_fits_a_frame_and_a_request() {
        let short: Vec<UserId> = (0..2_500).map(|i| user(&format!("u{i}"))).collect();
        assert_eq!(pages(short).iter().map(Vec::len).collect::<Vec<_>>(), [1_000, 1_000, 500]);
        let long: Vec<UserId> = (0..1_000).map(|i| user(&format!("{}{i:04}", "\"".repeat(124)))).collect();
        for page in pages(long) {
            let text = serde_json::to_string(&page).unwrap();
            assert!(text.len() < PAGE_BYTES + 2, "{}", text.len());
            assert!(page.len() > 200);
        }
    }

    #[test]
    fn only_the_last_of_many_calls_is_told() {
        let now = MonoTime::default();
        let mut watches = Watches::default();
        for _ in 0..10 {
            watches.add(user("ana"));
            watches.remove(user("ana"));
        }
        assert_eq!(watches.next_page(now), None);
        watches.add(user("ana"));
        assert_eq!(watches.next_page(now), Some(Page::Watch(vec![user("ana")])));
        watches.remove(user("ana"));
        watches.add(user("ana"));
        assert_eq!(watches.next_page(now), Some(Page::Watch(vec![user("ana")])));
        watches.remove(user("ana"));
        assert_eq!(watches.next_page(now), Some(Page::Unwatch(vec![user("ana")])));
        assert_eq!(watches.next_page(now), None);
    }
}
