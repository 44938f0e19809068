//! What is true of a user, from what its devices do and what it claims. The few rules are written here anew (DESIGN
//! of the service: devices and claims make one status), so that the judge does not share a mistake of `derive`.

use std::marker::PhantomData;
use std::time::Duration;

use super::wire::Status;

/// Since the start of the scenario.
pub(super) type Moment = Duration;
/// A step function.
pub(super) type Steps<T> = Vec<(Moment, T)>;

/// What is noted of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Truth {
    /// Connected, its person is active.
    On,
    /// Connected, its person is not.
    Idle,
    Off,
    /// Lost against its will, or between the attempt to connect and the welcome: nobody is blamed for the answer that
    /// it is as it lately was, nor for the one that it is off, until this moment; after it the device is off.
    Either {
        until: Moment,
    },
}

/// What a device does, as the service may know it. Later ones are covered by earlier ones of other devices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Doing {
    Active,
    Idle,
    Gone,
}

/// What a user claims of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Claim {
    Nothing,
    Dnd,
    Invisible,
}

/// Of which there are few, so that sets of them are small.
pub(super) trait Few: Copy + PartialEq + 'static {
    const ALL: &'static [Self];
}

impl Few for Doing {
    const ALL: &'static [Self] = &[Self::Active, Self::Idle, Self::Gone];
}

impl Few for Claim {
    const ALL: &'static [Self] = &[Self::Nothing, Self::Dnd, Self::Invisible];
}

impl Few for Status {
    const ALL: &'static [Self] = &[Self::Online, Self::Idle, Self::Dnd, Self::Offline];
}

/// All that may be true. More than one: nobody can be blamed for any of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct May<T> {
    bits: u8,
    of: PhantomData<T>,
}

/// What may be shown of a user.
pub(super) type Answers = May<Status>;

impl<T: Few> May<T> {
    pub(super) fn be(values: &[T]) -> Self {
        let bit = |value: &T| T::ALL.iter().position(|one| one == value).map_or(0, |index| 1 << index);
        Self { bits: values.iter().map(bit).fold(0, |all, bit| all | bit), of: PhantomData }
    }

    pub(super) fn or(self, other: Self) -> Self {
        Self { bits: self.bits | other.bits, of: PhantomData }
    }

    pub(super) fn has(self, value: T) -> bool {
        self.bits & Self::be(&[value]).bits != 0
    }

    pub(super) fn values(self) -> impl Iterator<Item = T> {
        T::ALL.iter().copied().filter(move |value| self.has(*value))
    }

    /// Whether only one answer is right.
    pub(super) const fn is_sure(self) -> bool {
        self.bits.is_power_of_two()
    }
}

/// The rules: who hides or is nowhere is offline; who wants no disturbance is shown so; who is active on any device is
/// online.
const fn status(claim: Claim, doing: Doing) -> Status {
    match (claim, doing) {
        (Claim::Invisible, _) | (_, Doing::Gone) => Status::Offline,
        (Claim::Dnd, _) => Status::Dnd,
        (Claim::Nothing, Doing::Active) => Status::Online,
        (Claim::Nothing, Doing::Idle) => Status::Idle,
    }
}

/// The one that covers the other.
fn most(one: Doing, other: Doing) -> Doing {
    Doing::ALL.iter().copied().find(|doing| *doing == one || *doing == other).unwrap_or(one)
}

/// How long after a change nobody can say whether a lost gateway had passed it on.
const LATELY: Duration = Duration::from_secs(1);

/// A stretch in which a device may be what is said, and after which it is gone.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    from: Moment,
    until: Moment,
    may: May<Doing>,
}

/// One device of a user.
#[derive(Clone, Debug, Default)]
struct Device {
    /// In the order of time; each ends the one before.
    steps: Vec<Stretch>,
    /// From one moment to another nobody could know what it does.
    unseen: Vec<(Moment, Moment)>,
    /// Lost sessions that may be taken for living ones for a while, beside what the device does meanwhile.
    ghosts: Vec<Stretch>,
}

impl Device {
    fn at(&self, moment: Moment) -> May<Doing> {
        if self.unseen.iter().any(|(from, to)| *from <= moment && moment < *to) {
            return May::be(Doing::ALL);
        }
        let gone = May::be(&[Doing::Gone]);
        let step = self.steps.iter().rfind(|step| step.from <= moment);
        let own = step.filter(|step| moment < step.until).map_or(gone, |step| step.may);
        let ghosts = self.ghosts.iter().filter(|ghost| ghost.from <= moment && moment < ghost.until);
        ghosts.fold(own, |all, ghost| combine(all, ghost.may))
    }

    /// All that it may have been doing from one moment to another.
    fn within(&self, from: Moment, to: Moment) -> May<Doing> {
        let edges = self.edges().filter(|edge| *edge > from && *edge <= to);
        edges.fold(self.at(from), |all, edge| all.or(self.at(edge)))
    }

    /// What it did of late, but for being gone; who did nothing comes to be active.
    fn lately(&self, at: Moment) -> May<Doing> {
        let first = self.steps.iter().rposition(|step| step.from + LATELY <= at).unwrap_or(0);
        let did = self
            .steps
            .iter()
            .skip(first)
            .filter(|step| step.from <= at && step.until.saturating_add(LATELY) > at);
        let did: Vec<Doing> =
            did.flat_map(|step| step.may.values()).filter(|doing| *doing != Doing::Gone).collect();
        if did.is_empty() { May::be(&[Doing::Active]) } else { May::be(&did) }
    }

    fn edges(&self) -> impl Iterator<Item = Moment> {
        self.steps
            .iter()
            .chain(&self.ghosts)
            .map(|stretch| (stretch.from, stretch.until))
            .chain(self.unseen.iter().copied())
            .flat_map(|(from, to)| [from, to])
            .filter(|edge| *edge < Moment::MAX)
    }
}

fn combine(one: May<Doing>, other: May<Doing>) -> May<Doing> {
    let pairs = one.values().flat_map(|a| other.values().map(move |b| most(a, b)));
    May::be(&pairs.collect::<Vec<_>>())
}

/// One user: its devices and claims.
#[derive(Clone, Debug)]
pub(super) struct Person {
    devices: Vec<Device>,
    claims: Steps<May<Claim>>,
}

impl Person {
    pub(super) fn new(devices: usize) -> Self {
        let claims = vec![(Moment::ZERO, May::be(&[Claim::Nothing]))];
        Self { devices: vec![Device::default(); devices], claims }
    }

    /// From this moment on.
    pub(super) fn set(&mut self, device: usize, at: Moment, truth: Truth) {
        let sure = |doing| (May::be(&[doing]), Moment::MAX);
        let (may, until) = match truth {
            Truth::On => sure(Doing::Active),
            Truth::Idle => sure(Doing::Idle),
            Truth::Off => sure(Doing::Gone),
            Truth::Either { until } => (self.lately(device, at).or(May::be(&[Doing::Gone])), until),
        };
        self.may(device, at, may, until);
    }

    /// The device may be any of these until a moment, and is gone after it.
    pub(super) fn may(&mut self, device: usize, from: Moment, may: May<Doing>, until: Moment) {
        self.devices[device].steps.push(Stretch { from, until, may });
    }

    /// All that was noted since a moment was otherwise.
    pub(super) fn forget_since(&mut self, device: usize, since: Moment) {
        self.devices[device].steps.retain(|step| step.from < since);
    }

    pub(super) fn lately(&self, device: usize, at: Moment) -> May<Doing> {
        self.devices[device].lately(at)
    }

    /// A lost session may be taken for one that lives, until a moment, whatever its device does.
    pub(super) fn haunt(&mut self, device: usize, from: Moment, may: May<Doing>, until: Moment) {
        let may = may.or(May::be(&[Doing::Gone]));
        self.devices[device].ghosts.push(Stretch { from, until, may });
    }

    /// Nobody is blamed for what is shown of the device from one moment to another.
    pub(super) fn excuse(&mut self, device: usize, from: Moment, to: Moment) {
        self.devices[device].unseen.push((from, to));
    }

    pub(super) fn claim(&mut self, at: Moment, may: May<Claim>) {
        self.claims.push((at, may));
    }

    /// What may be claimed now.
    pub(super) fn claims(&self) -> May<Claim> {
        self.claims.last().map_or_else(|| May::be(&[Claim::Nothing]), |(_, may)| *may)
    }

    /// From a moment on claims may be forgotten.
    pub(super) fn may_forget(&mut self, since: Moment) {
        let nothing = May::be(&[Claim::Nothing]);
        let held = at(&self.claims, since).unwrap_or(nothing);
        let index = self.claims.partition_point(|(at, _)| *at <= since);
        self.claims.insert(index, (since, held));
        for (_, may) in &mut self.claims[index..] {
            *may = may.or(nothing);
        }
    }

    /// What may be shown, from the beginning on.
    pub(super) fn answers(&self) -> Steps<Answers> {
        let claimed = self.claims.iter().map(|(at, _)| *at);
        let mut edges: Vec<Moment> =
            self.devices.iter().flat_map(Device::edges).chain(claimed).chain([Moment::ZERO]).collect();
        edges.sort_unstable();
        edges.dedup();
        let mut steps: Steps<Answers> = edges.into_iter().map(|edge| (edge, self.answer(edge))).collect();
        steps.dedup_by_key(|(_, answers)| *answers);
        steps
    }

    /// What may be shown of a user with several devices when each is known late by its own way, since they are at
    /// different gateways: any mix of what they did from one moment to another. Of one device nothing: its ways have
    /// an order.
    pub(super) fn mixed(&self, from: Moment, to: Moment) -> Answers {
        if self.devices.len() < 2 {
            return May::be(&[]);
        }
        let gone = May::be(&[Doing::Gone]);
        let doing = self.devices.iter().fold(gone, |all, device| combine(all, device.within(from, to)));
        let claims = at(&self.claims, to).unwrap_or_else(|| May::be(&[Claim::Nothing]));
        statuses(claims, doing)
    }

    /// What may be shown at a moment.
    pub(super) fn answer(&self, moment: Moment) -> Answers {
        let gone = May::be(&[Doing::Gone]);
        let doing = self.devices.iter().fold(gone, |all, device| combine(all, device.at(moment)));
        let claims = at(&self.claims, moment).unwrap_or_else(|| May::be(&[Claim::Nothing]));
        statuses(claims, doing)
    }
}

fn statuses(claims: May<Claim>, doing: May<Doing>) -> Answers {
    let each = claims.values().flat_map(|claim| doing.values().map(move |doing| status(claim, doing)));
    May::be(&each.collect::<Vec<_>>())
}

/// The value of a step function that began at the first step.
pub(super) fn at<T: Copy>(steps: &[(Moment, T)], moment: Moment) -> Option<T> {
    steps.iter().rev().find(|(at, _)| *at <= moment).map(|(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Moment {
        Duration::from_secs(seconds)
    }

    fn shown(person: &Person) -> Vec<(u64, Vec<Status>)> {
        let steps = person.answers();
        steps.iter().map(|(at, answers)| (at.as_secs(), answers.values().collect())).collect()
    }

    #[test]
    fn a_user_is_on_if_any_device_is_and_idle_if_all_are() {
        let mut person = Person::new(3);
        person.set(0, s(1), Truth::Idle);
        person.set(1, s(2), Truth::On);
        person.set(2, s(3), Truth::Idle);
        person.set(1, s(4), Truth::Idle);
        person.set(1, s(5), Truth::Off);
        person.set(0, s(6), Truth::Off);
        person.set(2, s(7), Truth::Off);
        use Status::{Idle, Offline, Online};
        let want =
            [(0, vec![Offline]), (1, vec![Idle]), (2, vec![Online]), (4, vec![Idle]), (7, vec![Offline])];
        assert_eq!(shown(&person), want);
    }

    #[test]
    fn claims_stand_above_devices_and_need_one() {
        let mut person = Person::new(1);
        person.claim(s(1), May::be(&[Claim::Dnd]));
        person.set(0, s(2), Truth::On);
        person.claim(s(3), May::be(&[Claim::Invisible]));
        person.claim(s(4), May::be(&[Claim::Nothing]));
        use Status::{Dnd, Offline, Online};
        let want = [(0, vec![Offline]), (2, vec![Dnd]), (3, vec![Offline]), (4, vec![Online])];
        assert_eq!(shown(&person), want);
    }

    #[test]
    fn who_is_lost_is_as_before_or_off_and_then_off() {
        let mut person = Person::new(1);
        person.set(0, s(1), Truth::Idle);
        person.set(0, s(5), Truth::Either { until: s(9) });
        use Status::{Idle, Offline};
        let want = [(0, vec![Offline]), (1, vec![Idle]), (5, vec![Idle, Offline]), (9, vec![Offline])];
        assert_eq!(shown(&person), want);
    }

    #[test]
    fn a_change_just_before_the_loss_may_not_have_been_heard() {
        let mut person = Person::new(1);
        person.set(0, s(1), Truth::On);
        let lost = s(5);
        person.set(0, lost - LATELY / 2, Truth::Idle);
        assert_eq!(person.lately(0, lost), May::be(&[Doing::Active, Doing::Idle]));
        assert_eq!(person.lately(0, lost + LATELY), May::be(&[Doing::Idle]));
    }

    #[test]
    fn another_device_covers_the_doubt() {
        let mut person = Person::new(2);
        person.set(0, s(0), Truth::On);
        person.set(1, s(1), Truth::On);
        person.set(1, s(2), Truth::Either { until: s(6) });
        assert_eq!(shown(&person), [(0, vec![Status::Online])]);
        person.set(0, s(3), Truth::Off);
        assert_eq!(
            shown(&person)[1..],
            [(3, vec![Status::Online, Status::Offline]), (6, vec![Status::Offline])]
        );
    }

    #[test]
    fn a_ghost_excuses_what_its_session_was_and_for_its_time_only() {
        let mut person = Person::new(1);
        person.set(0, s(0), Truth::On);
        person.haunt(0, s(1), May::be(&[Doing::Active]), s(4));
        person.set(0, s(2), Truth::Idle);
        use Status::{Idle, Online};
        assert_eq!(shown(&person), [(0, vec![Online]), (2, vec![Online, Idle]), (4, vec![Idle])]);
    }

    #[test]
    fn what_nobody_could_see_excuses_every_answer_and_only_of_that_device() {
        let mut person = Person::new(2);
        person.set(0, s(0), Truth::On);
        person.excuse(0, s(2), s(4));
        use Status::{Idle, Offline, Online};
        let want = [(0, vec![Online]), (2, vec![Online, Idle, Offline]), (4, vec![Online])];
        assert_eq!(shown(&person), want);
        person.set(1, s(3), Truth::On);
        assert_eq!(shown(&person)[2..], [(3, vec![Online])]);
    }

    #[test]
    fn devices_that_are_known_late_may_be_mixed_and_one_may_not() {
        let mut person = Person::new(2);
        person.set(0, s(1), Truth::On);
        person.set(1, s(5), Truth::On);
        person.set(0, s(6), Truth::Off);
        assert_eq!(person.answer(s(6)), May::be(&[Status::Online]));
        assert_eq!(person.mixed(s(4), s(6)), May::be(&[Status::Online, Status::Offline]));
        assert_eq!(person.mixed(s(5), s(5)), May::be(&[Status::Online]));
        let mut person = Person::new(1);
        person.set(0, s(1), Truth::On);
        assert_eq!(person.mixed(s(0), s(2)), May::be(&[]));
    }

    #[test]
    fn a_forgotten_claim_is_excused_from_then_on() {
        let mut person = Person::new(1);
        person.set(0, s(0), Truth::On);
        person.claim(s(1), May::be(&[Claim::Dnd]));
        person.may_forget(s(3));
        person.claim(s(5), May::be(&[Claim::Nothing]));
        use Status::{Dnd, Online};
        let want = [(0, vec![Online]), (1, vec![Dnd]), (3, vec![Online, Dnd]), (5, vec![Online])];
        assert_eq!(shown(&person), want);
    }
}
