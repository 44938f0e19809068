//! The presence map against a model that recomputes everything from the history of one user at each look.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::time::Duration;

use herenow_client_core::PresenceMap;
use herenow_protocol::{Epoch, MonoTime, Presence, Status, UserId, Version, WallTime};
use proptest::prelude::*;

const FRESH_MS: u64 = 20;
/// The server's wall clock stands this far ahead of the client's measuring clock.
const WALL_AHEAD: u64 = 1_000;

#[derive(Clone, Copy, Debug)]
enum Step {
    Connect,
    Cut,
    Watch,
    Unwatch,
    Record { version: u64, status: Status },
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let status = prop_oneof![
        3 => Just(Status::Online), 2 => Just(Status::Idle), 2 => Just(Status::Offline), 1 => Just(Status::Unknown)
    ];
    prop_oneof![
        2 => Just(Step::Connect),
        2 => Just(Step::Cut),
        1 => Just(Step::Watch),
        1 => Just(Step::Unwatch),
        6 => (1_u64..6, status).prop_map(|(version, status)| Step::Record { version, status }),
        4 => (1_u64..15).prop_map(Step::Wait),
    ]
}

fn user() -> UserId {
    UserId::new("ben").unwrap()
}

fn record(version: u64, status: Status) -> Presence {
    Presence {
        user_id: user(),
        status,
        last_updated: Some(WallTime::from_millis(1)),
        version: Version { epoch: Epoch::NONE, n: version },
        text: None,
        emoji: None,
        reachable: false,
        devices: Vec::new(),
        invisible: false,
        as_of: None,
    }
}

/// What happened to the user since it was last watched, with the moment of each.
#[derive(Clone, Copy, Debug)]
enum Fact {
    /// A record on connection number `link`.
    Heard { version: u64, status: Status, link: u32 },
    /// Connection number `link` ended; the last byte of it was heard at `heard`.
    Lost { link: u32, heard: u64 },
}

type Shown = (Status, u64, Option<u64>);

/// What the history of a user comes to.
#[derive(Default)]
struct Model {
    shown: Option<Shown>,
    /// The connection whose record is shown.
    confirmed_on: Option<u32>,
    /// Until when the shown record was known, if its connection is gone.
    known_until: Option<u64>,
    aside: Option<(Status, u64, u32)>,
    decayed: bool,
}

impl Model {
    fn of(facts: &[(u64, Fact)], now: u64) -> Option<Shown> {
        let mut model = Self::default();
        for (at, fact) in facts {
            model.decay(*at);
            model.apply(*fact);
            model.decay(*at);
        }
        model.decay(now);
        model.shown
    }

    fn decay(&mut self, at: u64) {
        let (Some(until), Some(held), false) = (self.known_until, self.shown, self.decayed) else { return };
        if until + FRESH_MS > at {
            return;
        }
        if let Some((status, version, link)) = self.aside.take() {
            *self =
                Self { shown: Some((status, version, None)), confirmed_on: Some(link), ..Self::default() };
            return;
        }
        self.decayed = true;
        if held.0 != Status::Unknown {
            self.shown = Some((Status::Unknown, held.1, Some(until + WALL_AHEAD)));
        }
    }

    fn apply(&mut self, fact: Fact) {
        match fact {
            Fact::Heard { version, status, link } => {
                let lower = self.shown.is_some_and(|held| version < held.1);
                let says_something = status != Status::Unknown;
                if !lower || (self.decayed && says_something) {
                    *self = Self {
                        shown: Some((status, version, None)),
                        confirmed_on: Some(link),
                        ..Self::default()
                    };
                } else if !says_something {
                    self.aside = None;
                    let as_of = self.known_until.map(|until| until + WALL_AHEAD);
                    let doubted = |held: &Shown| (Status::Unknown, held.1, as_of);
                    self.shown = self.shown.map(|held| match held.0 {
                        Status::Unknown => held,
                        Status::Online | Status::Idle | Status::Dnd | Status::Offline => doubted(&held),
                    });
                } else if self.confirmed_on != Some(link) && !self.decayed {
                    self.aside =
                        self.aside.filter(|aside| aside.1 > version).or(Some((status, version, link)));
                }
            }
            Fact::Lost { link, heard } => {
                self.aside = None;
                if self.confirmed_on == Some(link) {
                    self.known_until = Some(heard);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_map_shows_what_the_history_says(steps in prop::collection::vec(step(), 1..40)) {
        let mut map = PresenceMap::new();
        let (mut now, mut link, mut up, mut heard) = (0_u64, 0_u32, false, 0_u64);
        let mut facts: Option<Vec<(u64, Fact)>> = None;
        let mut told: Option<Presence> = None;
        for step in steps {
            let mut changed = Vec::new();
            match step {
                Step::Wait(ms) => now += ms,
                Step::Connect if !up => {
                    (link, up, heard) = (link + 1, true, now);
                    let wall = WallTime::from_millis(now + WALL_AHEAD);
                    map.connected(wall, Duration::from_millis(FRESH_MS), MonoTime::from_millis(now));
                }
                Step::Cut if up => {
                    up = false;
                    map.disconnected();
                    if let Some(facts) = &mut facts {
                        facts.push((now, Fact::Lost { link, heard }));
                    }
                }
                Step::Watch => {
                    map.watch(user());
                    facts.get_or_insert_default();
                }
                Step::Unwatch => {
                    map.unwatch(&user());
                    (facts, told) = (None, None);
                }
                Step::Record { version, status } if up => {
                    heard = now;
                    map.heard(MonoTime::from_millis(now));
                    map.take(vec![record(version, status)], &mut changed);
                    if let Some(facts) = &mut facts {
                        facts.push((now, Fact::Heard { version, status, link }));
                    }
                }
                Step::Connect | Step::Cut | Step::Record { .. } => {}
            }
            map.handle_timeout(MonoTime::from_millis(now), &mut changed);
            let shown = map.get(&user());
            let seen = shown.map(|held| (held.status, held.version.n, held.as_of.map(WallTime::as_millis)));
            prop_assert_eq!(seen, facts.as_deref().and_then(|facts| Model::of(facts, now)));

            let visible = |held: &Presence| (held.status, held.as_of);
            if shown.map(visible) != told.as_ref().map(visible) && facts.is_some() {
                prop_assert!(!changed.is_empty(), "a visible change was not told");
            }
            if let Some(last) = changed.last() {
                prop_assert_eq!(Some(last), shown);
                told = Some(last.clone());
            }
        }
    }
}
