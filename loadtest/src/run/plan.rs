//! The schedule: what everybody does and when, from the seed alone. It knows nothing of what the service does, so that
//! a service that falls behind cannot slow its own measurement down (open loop).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::chance::Chance;
use super::scenario::Scenario;

/// Microseconds since the load began.
pub(super) type Moment = u64;

/// Nobody does two things closer together than this, so that each has a beginning to be timed from.
const REST: Moment = 1_000_000;
/// Of a switch of devices: from the second one's coming to the first one's leaving.
const OVERLAP: Moment = 1_000_000;
/// How often somebody who is free is looked for, before the event is given up.
const TRIES: u32 = 32;
/// How often the number of people who are there is brought to the curve of the day.
const DAY_STEP: Duration = Duration::from_millis(250);

/// What somebody does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Deed {
    /// Connects with this device.
    Come(u8),
    /// Says `bye`.
    Leave(u8),
    /// Closes the connection without a word.
    Cut(u8),
    /// Falls silent, with the connection open.
    Die(u8),
    /// Becomes idle or active.
    Flip,
    /// Stops watching one and watches another; which ones follow from the number.
    Churn(u64),
}

/// A deed at its intended time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Step {
    pub(super) at: Moment,
    pub(super) user: u32,
    pub(super) deed: Deed,
}

/// What happens at random moments, each kind at its own rate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Kind {
    Flip,
    Leave,
    Reload,
    Cut,
    Death,
    Switch,
    Churn,
    Arrival,
    Celebrity,
    Storm,
    Day,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Due {
    Step(Step),
    Next(Kind),
}

#[derive(Clone, Copy, Debug, Default)]
struct Person {
    here: bool,
    device: u8,
    free_at: Moment,
}

/// Hands out the steps in order.
#[derive(Debug)]
pub(super) struct Plan {
    scenario: Scenario,
    chance: Chance,
    due: BinaryHeap<Reverse<(Moment, Due)>>,
    people: Vec<Person>,
    here: u32,
    begin: Moment,
    end: Moment,
}

impl Plan {
    /// `scenario` is the part of one worker.
    pub(super) fn new(scenario: Scenario) -> Self {
        let begin = micros(scenario.phases.ramp + scenario.phases.settle);
        let end = begin + micros(scenario.phases.measure);
        let mut plan = Self {
            chance: Chance::new(scenario.seed),
            due: BinaryHeap::new(),
            people: vec![Person::default(); scenario.people.sessions as usize],
            here: 0,
            begin,
            end,
            scenario,
        };
        plan.ramp();
        let kinds = [
            Kind::Flip,
            Kind::Leave,
            Kind::Reload,
            Kind::Cut,
            Kind::Death,
            Kind::Switch,
            Kind::Churn,
            Kind::Arrival,
            Kind::Celebrity,
        ];
        for kind in kinds {
            plan.schedule(kind, begin);
        }
        if let Some(storm) = &plan.scenario.storm {
            plan.due.push(Reverse((begin + micros(storm.at), Due::Next(Kind::Storm))));
        }
        if plan.scenario.day.is_some() {
            plan.due.push(Reverse((begin, Due::Next(Kind::Day))));
        }
        plan
    }

    /// When what counts begins and ends.
    pub(super) const fn measured(&self) -> (Moment, Moment) {
        (self.begin, self.end)
    }

    /// The next step. Nothing new begins after what counts, but who was to come back then does.
    pub(super) fn next(&mut self) -> Option<Step> {
        while let Some(Reverse((at, due))) = self.due.pop() {
            match due {
                Due::Step(step) => return Some(step),
                Due::Next(kind) if at < self.end => self.happen(kind, at),
                Due::Next(_) => {}
            }
        }
        None
    }

    /// Everybody comes, evenly spread, in an order that is none of the watch lists.
    fn ramp(&mut self) {
        let people = self.scenario.people.sessions;
        let share = self.scenario.day.as_ref().map_or(self.scenario.people.present, |day| day.night);
        let mut order: Vec<u32> = (0..people).collect();
        for index in (1..people).rev() {
            let other = self.chance.below(index + 1);
            order.swap(index as usize, other as usize);
        }
        let present = (f64::from(people) * share).round();
        let ramp = self.scenario.phases.ramp;
        for (number, user) in order.into_iter().enumerate() {
            let number = f64::from(u32::try_from(number).unwrap_or(u32::MAX));
            if number < present {
                let at = micros(ramp.mul_f64(number / present));
                self.come(user, at);
            }
        }
    }

    fn come(&mut self, user: u32, at: Moment) {
        let person = &mut self.people[user as usize];
        self.here += u32::from(!person.here);
        (person.here, person.free_at) = (true, at + REST);
        let device = person.device;
        self.push(at, user, Deed::Come(device));
    }

    /// Goes, and is back at `back`.
    fn go(&mut self, user: u32, at: Moment, deed: Deed, back: Option<Moment>) {
        self.push(at, user, deed);
        let person = &mut self.people[user as usize];
        self.here -= u32::from(person.here);
        (person.here, person.free_at) = (false, at + REST);
        if let Some(back) = back {
            // It is planned with as one who is there, and is not free until it is.
            self.come(user, back);
        }
    }

    fn push(&mut self, at: Moment, user: u32, deed: Deed) {
        self.due.push(Reverse((at, Due::Step(Step { at, user, deed }))));
    }

    fn schedule(&mut self, kind: Kind, after: Moment) {
        let rates = &self.scenario.rates;
        let rate = match kind {
            Kind::Flip => rates.flips,
            Kind::Leave => rates.leaves,
            Kind::Reload => rates.reloads,
            Kind::Cut => rates.cuts,
            Kind::Death => rates.deaths,
            Kind::Switch => rates.switches,
            Kind::Churn => rates.churn,
            Kind::Arrival => rates.arrivals,
            Kind::Celebrity => rates.celebrity_flips,
            Kind::Storm | Kind::Day => return,
        };
        if let Some(wait) = self.chance.until_next(rate) {
            self.due.push(Reverse((after + micros(wait), Due::Next(kind))));
        }
    }

    fn happen(&mut self, kind: Kind, at: Moment) {
        self.schedule(kind, at);
        match kind {
            Kind::Storm => self.storm(at),
            Kind::Day => self.day(at),
            Kind::Celebrity => self.push(at, 0, Deed::Flip),
            Kind::Arrival => {
                if let Some(user) = self.somebody(at, false) {
                    self.come(user, at);
                }
            }
            Kind::Flip
            | Kind::Leave
            | Kind::Reload
            | Kind::Cut
            | Kind::Death
            | Kind::Switch
            | Kind::Churn => {
                if let Some(user) = self.somebody(at, true) {
                    self.act(kind, user, at);
                }
            }
        }
    }

    /// Somebody who is free, and there or not.
    fn somebody(&mut self, at: Moment, here: bool) -> Option<u32> {
        let all = self.scenario.people.sessions;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounds up, at most all")]
        let among = (f64::from(all) * self.scenario.rates.among).ceil() as u32;
        // The celebrity has its own rate and stays.
        let first = u32::from(self.scenario.rates.celebrity_flips > 0.0).min(all - 1);
        (0..TRIES).find_map(|_| {
            let user = first + self.chance.below(among.min(all).saturating_sub(first).max(1));
            let person = self.people.get(user as usize)?;
            (person.here == here && person.free_at <= at).then_some(user)
        })
    }

    fn act(&mut self, kind: Kind, user: u32, at: Moment) {
        let device = self.people[user as usize].device;
        let (promise, rates) = (&self.scenario.promise, &self.scenario.rates);
        let away = self.chance.between(rates.away);
        match kind {
            Kind::Leave => self.go(user, at, Deed::Leave(device), Some(at + micros(away))),
            Kind::Reload => {
                let back = at + micros(self.chance.between(rates.reload));
                self.go(user, at, Deed::Cut(device), Some(back));
            }
            Kind::Cut => {
                let back = at + micros(self.scenario.grace_longest() + promise.bound + away);
                self.go(user, at, Deed::Cut(device), Some(back));
            }
            Kind::Death => {
                let back = at + micros(promise.heartbeat_timeout + promise.bound + away);
                self.go(user, at, Deed::Die(device), Some(back));
            }
            Kind::Switch => {
                let other = 1 - device;
                self.push(at, user, Deed::Come(other));
                self.push(at + OVERLAP, user, Deed::Leave(device));
                let person = &mut self.people[user as usize];
                (person.device, person.free_at) = (other, at + OVERLAP + REST);
            }
            Kind::Churn => {
                let number =
                    u64::from(self.chance.below(u32::MAX)) << 32 | u64::from(self.chance.below(u32::MAX));
                self.push(at, user, Deed::Churn(number));
            }
            Kind::Flip | Kind::Arrival | Kind::Celebrity | Kind::Storm | Kind::Day => {
                self.people[user as usize].free_at = at + REST;
                self.push(at, user, Deed::Flip);
            }
        }
    }

    fn storm(&mut self, at: Moment) {
        let Some(storm) = self.scenario.storm.clone() else { return };
        for user in 0..self.scenario.people.sessions {
            let person = self.people[user as usize];
            if person.here && person.free_at <= at && self.chance.fraction() < storm.share {
                // A naive client is back as soon as it has seen its connection end.
                let back = at + 1_000 + micros(self.chance.between((Duration::ZERO, storm.jitter)));
                self.go(user, at, Deed::Cut(person.device), Some(back));
            }
        }
    }

    /// Brings the number of people to the curve: night at both ends, all in the middle.
    fn day(&mut self, at: Moment) {
        let Some(night) = self.scenario.day.as_ref().map(|day| day.night) else { return };
        let next = at + micros(DAY_STEP);
        self.due.push(Reverse((next, Due::Next(Kind::Day))));
        let whole = self.scenario.phases.measure.as_secs_f64();
        let elapsed = Duration::from_micros(next - self.begin).as_secs_f64();
        let sun = (std::f64::consts::PI * (elapsed / whole).min(1.0)).sin().powi(2);
        let wanted = f64::from(self.scenario.people.sessions) * (night + (1.0 - night) * sun);
        for _ in 0..self.scenario.people.sessions {
            let difference = wanted - f64::from(self.here);
            if difference.abs() < 1.0 {
                return;
            }
            let Some(user) = self.somebody(at, difference < 0.0) else { return };
            let when = at + micros(self.chance.between((Duration::ZERO, DAY_STEP)));
            if difference > 0.0 {
                self.come(user, when);
            } else {
                let device = self.people[user as usize].device;
                self.go(user, when, Deed::Leave(device), None);
            }
        }
    }
}

/// Durations as moments.
pub(super) fn micros(duration: Duration) -> Moment {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(more: &str) -> Vec<Step> {
        let text = format!("name = \"a\"\n[people]\nsessions = 200\n{more}");
        let mut plan = Plan::new(Scenario::parse(&text).unwrap());
        std::iter::from_fn(|| plan.next()).collect()
    }

    const BUSY: &str = "[rates]\nflips = 20.0\nleaves = 5.0\nreloads = 5.0\ncuts = 2.0\ndeaths = 1.0\nswitches = 2.0\n\
                        churn = 3.0\n";

    #[test]
    fn a_schedule_follows_from_its_seed() {
        assert_eq!(steps(BUSY), steps(BUSY));
        assert!(steps(BUSY).is_sorted_by_key(|step| step.at));
        let count = |deed: fn(&Deed) -> bool| steps(BUSY).iter().filter(|step| deed(&step.deed)).count();
        let flips = count(|deed| matches!(deed, Deed::Flip));
        assert!((1_000..1_400).contains(&flips), "20 a second for a minute: {flips}");
        assert!((35..90).contains(&count(|deed| matches!(deed, Deed::Die(_)))));
    }

    #[test]
    fn nobody_leaves_who_is_not_there_and_nobody_comes_who_is() {
        let mut here = vec![[false; 2]; 200];
        for step in steps(BUSY) {
            let devices = &mut here[step.user as usize];
            match step.deed {
                Deed::Come(device) => {
                    assert!(!devices[usize::from(device)], "{step:?}");
                    devices[usize::from(device)] = true;
                }
                Deed::Leave(device) | Deed::Cut(device) | Deed::Die(device) => {
                    assert!(devices[usize::from(device)], "{step:?}");
                    devices[usize::from(device)] = false;
                }
                Deed::Flip | Deed::Churn(_) => assert!(devices.contains(&true), "{step:?}"),
            }
        }
    }

    #[test]
    fn whoever_was_cut_for_a_moment_is_back_even_after_the_end() {
        let steps = steps("[rates]\nreloads = 40.0\n");
        let count = |wanted: fn(&Deed) -> bool| steps.iter().filter(|step| wanted(&step.deed)).count();
        let cut = count(|deed| matches!(deed, Deed::Cut(_)));
        assert_eq!(count(|deed| matches!(deed, Deed::Come(_))), 200 + cut);
        assert!(steps.iter().any(|step| step.at >= 90_000_000), "the last ones come back after the end");
    }

    #[test]
    fn a_storm_cuts_all_at_once_and_naive_ones_are_back_at_once() {
        let steps = steps("[storm]\nat = \"5s\"\njitter = \"0s\"\n");
        let cut: Vec<_> = steps.iter().filter(|step| matches!(step.deed, Deed::Cut(_))).collect();
        assert_eq!(cut.len(), 200);
        assert!(cut.iter().all(|step| step.at == 35_000_000));
        let back = steps.iter().filter(|step| matches!(step.deed, Deed::Come(_)) && step.at > 35_000_000);
        assert!(back.clone().count() == 200 && back.into_iter().all(|step| step.at == 35_001_000));
    }

    #[test]
    fn a_day_has_a_night_and_a_noon() {
        let mut here = 0_i32;
        let (mut least, mut most) = (i32::MAX, 0);
        for step in steps("[day]\nnight = 0.25\n") {
            match step.deed {
                Deed::Come(_) => here += 1,
                Deed::Leave(_) => here -= 1,
                other @ (Deed::Cut(_) | Deed::Die(_) | Deed::Flip | Deed::Churn(_)) => panic!("{other:?}"),
            }
            if step.at >= 30_000_000 {
                (least, most) = (least.min(here), most.max(here));
            }
        }
        assert!((45..=55).contains(&least), "{least}");
        assert!((195..=200).contains(&most), "{most}");
        assert!((45..=60).contains(&here), "{here}");
    }
}
