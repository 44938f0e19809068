//! The gateways a coordinator has heard of: alive, stale, or gone (R6), and when silence is not believed (R7).

use std::collections::BTreeMap;
use std::time::Duration;

use herenow_protocol::id::ProcessId;
use herenow_protocol::{GatewayId, Incarnation, MonoTime, Origin};

use crate::Config;

/// How soon after one another gateways must fall silent for it to look like one cause.
pub(crate) const MASS_SILENCE: Duration = Duration::from_millis(1_500);
/// Fewer processes than this cannot tell a majority's silence from one death.
const MASS_SILENCE_PROCESSES: usize = 3;

#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) incarnation: Incarnation,
    at: MonoTime,
    /// When it said that it leaves.
    pub(crate) left_at: Option<MonoTime>,
    /// Sessions lost at once, for the stretching of the grace.
    wave: Wave,
}

#[derive(Debug, Default)]
struct Wave {
    last: Option<MonoTime>,
    lost: u64,
}

/// Every gateway heard of and not gone.
#[derive(Debug, Default)]
pub(crate) struct Gateways {
    pub(crate) known: BTreeMap<GatewayId, Heard>,
    /// Lives that ended in order, and when: what is still under way of them is not taken for a sign of life.
    pub(crate) left: BTreeMap<GatewayId, (Incarnation, MonoTime)>,
    frozen_since: Option<MonoTime>,
    /// Until when sessions of gateways that are gone may be in grace, of those heard here.
    pub(crate) mourned_until: MonoTime,
    /// The same, as other coordinators say. Never said again: each would make it longer by the way of a message.
    mourned_elsewhere: MonoTime,
}

/// What hearing a gateway means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Hearing {
    /// The life that was known.
    Same,
    /// It was not known.
    New,
    /// A later life: the earlier one is over.
    Reborn(Incarnation),
    /// An earlier life: ignore it.
    Ghost,
}

impl Gateways {
    /// Notes a sign of life.
    pub(crate) fn hear(&mut self, origin: &Origin, now: MonoTime) -> Hearing {
        if self.left.get(&origin.gateway).is_some_and(|(life, _)| origin.incarnation <= *life) {
            return Hearing::Ghost;
        }
        let Some(heard) = self.known.get_mut(&origin.gateway) else {
            let incarnation = origin.incarnation;
            let heard = Heard { incarnation, at: now, left_at: None, wave: Wave::default() };
            self.known.insert(origin.gateway.clone(), heard);
            return Hearing::New;
        };
        let before = heard.incarnation;
        if origin.incarnation < before {
            return Hearing::Ghost;
        }
        heard.at = now;
        heard.incarnation = origin.incarnation;
        heard.left_at = heard.left_at.filter(|_| origin.incarnation == before);
        if origin.incarnation > before { Hearing::Reborn(before) } else { Hearing::Same }
    }

    /// Another coordinator may know of the sessions of gateways that were gone before this one listened.
    pub(crate) fn mourn_with(&mut self, mourning_ms: u64, now: MonoTime, config: &Config) {
        let longest = config.grace_max.max(config.moving_window);
        let until = now.after(Duration::from_millis(mourning_ms).min(longest));
        self.mourned_elsewhere = self.mourned_elsewhere.max(until);
    }

    /// Until when a partition that is claimed now may have sessions in grace of which nobody tells.
    pub(crate) fn grieved_until(&self) -> MonoTime {
        self.mourned_until.max(self.mourned_elsewhere)
    }

    /// Everybody who is not gone.
    pub(crate) fn origins(&self) -> impl Iterator<Item = Origin> + '_ {
        self.known
            .iter()
            .map(|(gateway, heard)| Origin { gateway: gateway.clone(), incarnation: heard.incarnation })
    }

    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// Gateways silent long enough that one doubts them.
    pub(crate) fn stale(&self, now: MonoTime, config: &Config) -> usize {
        self.known.values().filter(|heard| now.since(heard.at) >= config.gateway_stale).count()
    }

    /// Counts as heard everybody who is known: the silence was ours.
    pub(crate) fn forgive(&mut self, now: MonoTime) {
        for heard in self.known.values_mut() {
            heard.at = now;
        }
        self.frozen_since = None;
    }

    /// R7: whether so many fell silent at once that the fault is looked for elsewhere. Ends after `freeze`, and
    /// re-arms nothing.
    pub(crate) fn frozen(&mut self, now: MonoTime, config: &Config) -> bool {
        if !self.mass_silence(now) {
            self.frozen_since = None;
            return false;
        }
        let since = *self.frozen_since.get_or_insert(now);
        now.since(since) < config.freeze
    }

    fn mass_silence(&self, now: MonoTime) -> bool {
        let mut processes: BTreeMap<&ProcessId, bool> = BTreeMap::new();
        for (gateway, heard) in &self.known {
            let silent = processes.entry(&gateway.process).or_insert(true);
            *silent &= now.since(heard.at) >= MASS_SILENCE;
        }
        let silent = processes.values().filter(|silent| **silent).count();
        processes.len() >= MASS_SILENCE_PROCESSES && silent * 2 > processes.len()
    }

    /// R6: takes out whoever was silent for the gateway timeout.
    pub(crate) fn take_dead(&mut self, now: MonoTime, config: &Config) -> Vec<Origin> {
        let dead = |heard: &Heard| now.since(heard.at) >= config.gateway_timeout;
        let gone: Vec<Origin> = self
            .known
            .iter()
            .filter(|(_, heard)| dead(heard))
            .map(|(gateway, heard)| Origin { gateway: gateway.clone(), incarnation: heard.incarnation })
            .collect();
        self.known.retain(|_, heard| !dead(heard));
        gone
    }

    /// Until when a session lost now counts. The more are lost with it, the longer they may take to come back.
    pub(crate) fn grace(
        &mut self,
        gateway: &GatewayId,
        lost: u64,
        now: MonoTime,
        config: &Config,
    ) -> MonoTime {
        let wave = match self.known.get_mut(gateway) {
            Some(heard) => heard.wave.grow(lost, now),
            None => lost,
        };
        let stretched =
            Duration::from_millis(wave.saturating_mul(1_000) / u64::from(config.grace_rate.max(1)));
        now.after(if config.grace_period.is_zero() {
            Duration::ZERO
        } else {
            stretched.clamp(config.grace_period, config.grace_max)
        })
    }
}

impl Wave {
    /// A wave goes on while no second passes without a loss.
    fn grow(&mut self, lost: u64, now: MonoTime) -> u64 {
        if self.last.is_none_or(|last| now.since(last) > Duration::from_secs(1)) {
            self.lost = 0;
        }
        self.last = Some(now);
        self.lost += lost;
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::testing::origin;

    fn at(ms: u64) -> MonoTime {
        MonoTime::from_millis(ms)
    }

    #[test]
    fn a_later_life_ends_the_earlier_one_and_is_not_followed_by_it() {
        let mut gateways = Gateways::default();
        let old = origin("g");
        let new = Origin { incarnation: Incarnation(2), ..old.clone() };
        assert_eq!(gateways.hear(&old, at(0)), Hearing::New);
        assert_eq!(gateways.hear(&old, at(0)), Hearing::Same);
        assert_eq!(gateways.hear(&new, at(1)), Hearing::Reborn(Incarnation(1)));
        assert_eq!(gateways.hear(&old, at(2)), Hearing::Ghost);
    }

    #[test]
    fn one_silent_gateway_of_three_is_dead_but_two_at_once_are_doubted_for_a_while() {
        let config = Config::default();
        let mut gateways = Gateways::default();
        for name in ["a", "b", "c"] {
            gateways.hear(&origin(name), at(0));
        }
        for ms in (0..=5_000).step_by(500) {
            gateways.hear(&origin("b"), at(ms));
            gateways.hear(&origin("c"), at(ms));
        }
        assert!(!gateways.frozen(at(5_000), &config));
        assert_eq!(gateways.take_dead(at(5_000), &config).len(), 1);

        let mut gateways = Gateways::default();
        for name in ["a", "b", "c"] {
            gateways.hear(&origin(name), at(0));
        }
        gateways.hear(&origin("c"), at(1_600));
        assert!(gateways.frozen(at(1_600), &config));
        gateways.hear(&origin("c"), at(11_600));
        assert!(!gateways.frozen(at(11_600), &config), "the freeze ends by itself");
    }

    #[test]
    fn one_gateway_of_one_or_two_is_believed_dead() {
        let mut gateways = Gateways::default();
        gateways.hear(&origin("a"), at(0));
        assert!(!gateways.frozen(at(4_000), &Config::default()));
    }

    #[test]
    fn the_grace_stretches_with_the_wave_and_not_beyond_its_limit() {
        let config = Config::default();
        let mut gateways = Gateways::default();
        gateways.hear(&origin("a"), at(0));
        let id = origin("a").gateway;
        assert_eq!(gateways.grace(&id, 1, at(0), &config), at(10_000));
        assert_eq!(gateways.grace(&id, 99_999, at(500), &config), at(20_500));
        assert_eq!(gateways.grace(&id, 1_000_000, at(1_000), &config), at(61_000));
        assert_eq!(gateways.grace(&id, 1, at(5_000), &config), at(15_000), "a new wave");
    }
}
