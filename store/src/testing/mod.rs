//! The conformance suite: what every store does, whatever it is made of.
//!
//! An implementation says how it is opened and runs all of it: `herenow_store::status_store_suite!(Fresh::new());` and
//! `herenow_store::activity_log_suite!(…)` in a file of tests. Each case makes its own.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test may fail so")]

use std::sync::Arc;

use futures::future::BoxFuture;
use herenow_protocol::api::Cause;
use herenow_protocol::frame::ManualStatus;
use herenow_protocol::history::Opened;
use herenow_protocol::message::ApiStatus;
use herenow_protocol::record::{KeptClaim, KeptSession, Record, Seen};
use herenow_protocol::{DeviceId, Epoch, Placement, Status, UserId, UserKey, Version, WallTime};

use crate::{ActivityLog, ActivityRecord, StatusStore};

pub mod activity;
pub mod status;

/// Opens a store again and again: what was written is there the next time. Whoever has it open lets it go first.
pub trait Opens<S: ?Sized> {
    /// Opens it.
    fn open(&self) -> BoxFuture<'_, Arc<S>>;
}

/// What is shared by all who have it open needs no opening.
impl<S: StatusStore + Clone + 'static> Opens<dyn StatusStore> for S {
    fn open(&self) -> BoxFuture<'_, Arc<dyn StatusStore>> {
        Box::pin(std::future::ready(Arc::new(self.clone()) as Arc<dyn StatusStore>))
    }
}

/// The same for the history.
impl<S: ActivityLog + Clone + 'static> Opens<dyn ActivityLog> for S {
    fn open(&self) -> BoxFuture<'_, Arc<dyn ActivityLog>> {
        Box::pin(std::future::ready(Arc::new(self.clone()) as Arc<dyn ActivityLog>))
    }
}

/// Where users of tests belong.
#[must_use]
pub fn placement() -> Placement {
    Placement::new(b"a secret of the conformance suite", 4)
}

/// A user of tests.
#[must_use]
pub fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

/// Its key.
#[must_use]
pub fn key(name: &str) -> UserKey {
    placement().key(&user(name))
}

/// The version of a write.
#[must_use]
pub fn version(epoch: u32, n: u64) -> Version {
    Version { epoch: Epoch { counter: epoch, nonce: 7 }, n }
}

/// A record with something in every field, which tells from which write it is.
#[must_use]
pub fn record(name: &str, written: Version) -> Record {
    let text = |what: &str| Some(format!("{what} of {written}").into_boxed_str());
    let moment = WallTime::from_millis(1_700_000_000_000 + written.n);
    Record {
        key: key(name),
        user: user(name),
        written,
        seen: Seen {
            version: Version { n: written.n / 2, ..written },
            status: Status::Dnd,
            since: Some(moment),
            text: text("text"),
            emoji: Some("🌵".into()),
        },
        manual: Some(KeptClaim {
            status: ManualStatus::Dnd,
            text: text("claim"),
            emoji: None,
            expires_at: Some(moment),
        }),
        api: Some(KeptClaim { status: ApiStatus::Idle, text: None, emoji: None, expires_at: None }),
        virtual_sessions: vec![KeptSession {
            name: Some(DeviceId::new("a phone").unwrap()),
            since: moment,
            expires_at: moment,
        }],
    }
}

/// An entry of the history.
#[must_use]
pub fn entry(name: &str, at_ms: u64, n: u64) -> ActivityRecord {
    ActivityRecord {
        key: key(name),
        user: user(name),
        at: WallTime::from_millis(at_ms),
        version: version(1, n),
        from: Status::Offline,
        to: Status::Online,
        cause: Cause::Connected,
        opened: if n % 2 == 1 {
            Opened { mobile: 1, server: 2, ..Opened::default() }
        } else {
            Opened::default()
        },
    }
}

/// Makes a test of each case for a status store; the expression gives a fresh one.
#[macro_export]
macro_rules! status_store_suite {
    ($fresh:expr) => {
        $crate::status_store_suite!(
            $fresh;
            what_is_written_is_read
            older_never_overwrites_newer
            the_version_decides_and_no_clock_does
            the_same_again_changes_nothing
            a_batch_that_broke_off_is_whole_when_made_again
            what_was_written_survives_a_restart
            writers_of_two_epochs_leave_the_newer
            ten_thousand_keys_are_read_and_scanned
            odd_user_ids_are_kept
            a_scan_keeps_to_its_range
            who_was_erased_is_gone_and_does_not_come_back
            an_erasure_is_fenced_too
            one_more_than_a_call_may_carry_is_refused
        );
    };
    ($fresh:expr; $($case:ident)*) => {
        $(
            #[tokio::test]
            async fn $case() {
                $crate::testing::status::$case(&$fresh).await;
            }
        )*
    };
}

/// Makes a test of each case for a history; the expression gives a fresh one.
#[macro_export]
macro_rules! activity_log_suite {
    ($fresh:expr) => {
        $crate::activity_log_suite!(
            $fresh;
            entries_come_in_the_order_of_time
            the_same_entry_again_is_one
            a_clock_that_went_back_loses_nothing
            a_span_has_its_first_moment_and_not_its_last
            history_survives_a_restart
            a_long_history_comes_in_pages
            who_was_erased_has_no_history
            days_that_are_over_are_forgotten
        );
    };
    ($fresh:expr; $($case:ident)*) => {
        $(
            #[tokio::test]
            async fn $case() {
                $crate::testing::activity::$case(&$fresh).await;
            }
        )*
    };
}
