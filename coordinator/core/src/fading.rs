//! The offline wave: users who are to be shown offline because they did not come back leave in turns, at a rate.
//!
//! Thousands lapse in the same moment when a gateway dies. What is said of them all at once would fill every queue on
//! its way and hold up those who come online meanwhile. So each waits in its partition's line, and partitions take turns
//! of a whole message. Who comes back before its turn was never seen to leave.

use std::collections::VecDeque;

use herenow_protocol::api::Cause;
use herenow_protocol::{MonoTime, Now, Partition, Status, UserKey};

use crate::Config;
use crate::coordinator::Coordinator;
use crate::derive::Derived;
use crate::due::Dues;
use crate::partition::PartitionState;
use crate::publish::DELTA_ENTRIES;
use crate::user::User;

/// What a user costs: credit is counted in thousandths, as time is in milliseconds.
const USER: u64 = 1_000;

/// Users of one partition in the order in which they are to be shown offline. Each is in it once.
#[derive(Debug, Default)]
pub(crate) struct Line(VecDeque<UserKey>);

impl Line {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Lets a user wait for its turn to be shown offline, if it is for a reason that can wait.
    pub(crate) fn takes(&mut self, key: UserKey, user: &mut User, derived: &Derived, cause: Cause) -> bool {
        let leaves = derived.public.status == Status::Offline && user.public.status != Status::Offline;
        if !leaves || !can_wait(cause) {
            return false;
        }
        if user.fading.replace(cause).is_none() {
            self.0.push_back(key);
        }
        true
    }
}

/// Whoever takes its leave, or is made to, is seen to at once.
const fn can_wait(cause: Cause) -> bool {
    match cause {
        Cause::Left | Cause::Manual | Cause::Api | Cause::Erased => false,
        Cause::Connected
        | Cause::Activity
        | Cause::GraceOver
        | Cause::Silent
        | Cause::Expired
        | Cause::Rebuilt => true,
    }
}

impl PartitionState {
    /// The turn of so many of those who wait.
    pub(crate) fn fade(&mut self, most: usize, now: Now, config: &Config) {
        for _ in 0..most {
            let Some(key) = self.fading.0.pop_front() else { return };
            let cause = self.users.get_mut(&key).and_then(|user| user.fading.take());
            if let Some(cause) = cause {
                self.judge(key, cause, true, now, config);
            }
        }
    }
}

/// How many may be shown offline now, and whose turn it was.
#[derive(Debug)]
pub(crate) struct Pace {
    credit: u64,
    at: MonoTime,
    last: Option<Partition>,
}

impl Pace {
    pub(crate) const fn new(now: MonoTime) -> Self {
        Self { credit: u64::MAX, at: now, last: None }
    }

    /// Most at once: a whole message, or what the rate gives in a tenth of a second.
    fn most(rate: u32) -> u64 {
        u64::from(rate).div_ceil(10).min(DELTA_ENTRIES as u64)
    }

    fn earn(&mut self, now: MonoTime, rate: u32) {
        let elapsed = u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX);
        let earned = elapsed.saturating_mul(u64::from(rate));
        self.at = now;
        self.credit = self.credit.saturating_add(earned).min(Self::most(rate) * USER);
    }

    /// Whose turn is next, and how many that are.
    fn next_turn(&self, dues: &Dues, rate: u32) -> Option<(Partition, u64)> {
        let (partition, waiting) = dues.next_fading(self.last)?;
        let most = if rate == 0 { u64::MAX } else { Self::most(rate) };
        Some((partition, most.min(waiting as u64)))
    }

    /// When there is credit for a turn of so many.
    fn due(&self, turn: u64, rate: u32) -> MonoTime {
        let missing = (turn * USER).saturating_sub(self.credit);
        self.at.after(std::time::Duration::from_millis(missing.div_ceil(u64::from(rate.max(1)))))
    }
}

impl Coordinator {
    /// When [`Self::fade`] has something to do next.
    pub(crate) fn fade_due(&self, dues: &Dues) -> Option<MonoTime> {
        let rate = self.config.offline_rate;
        let (_, turn) = self.pace.next_turn(dues, rate)?;
        Some(self.pace.due(turn.min(Pace::most(rate)), rate))
    }

    /// Gives turns as long as there is credit for whole ones. Cut off, nobody is shown offline.
    pub(crate) fn fade(&mut self, now: Now) {
        let rate = self.config.offline_rate;
        self.pace.earn(now.mono, rate);
        while let Some((partition, turn)) = self.pace.next_turn(self.ownership.dues(&self.config), rate) {
            if self.peers.isolated(now.mono) || rate > 0 && self.pace.credit < turn * USER {
                return;
            }
            self.pace.credit = self.pace.credit.saturating_sub(turn.saturating_mul(USER));
            self.pace.last = Some(partition);
            if let Some(state) = self.ownership.owned(partition) {
                state.fade(usize::try_from(turn).unwrap_or(usize::MAX), now, &self.config);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_grows_with_time_up_to_one_message() {
        let at = MonoTime::from_millis;
        let mut pace = Pace::new(at(0));
        pace.earn(at(0), 50_000);
        assert_eq!(pace.credit, 150 * USER);
        pace.credit = 0;
        assert_eq!(pace.due(150, 50_000), at(3));
        pace.earn(at(2), 50_000);
        assert_eq!(pace.credit, 100 * USER);
        assert_eq!(pace.due(150, 50_000), at(3));
        pace.earn(at(1_000), 50_000);
        assert_eq!(pace.credit, 150 * USER);
        assert_eq!((Pace::most(20), Pace::most(1)), (2, 1));
    }
}
