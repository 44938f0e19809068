//! The store of the simulated world, and what people say that is to be kept.
//!
//! Coordinators write behind: what they wanted kept is durable after an interval, and lost with them before. The store
//! is slow at times, and away. People say words beside their status, numbered over the whole world, so that whatever is
//! shown or kept tells which saying it is.
//!
//! R14 holds when an owner writes of a user only what it has read when it claimed, or was told since; when in the end
//! everybody is shown what is kept; and when, if nothing goes wrong, what was acknowledged is kept.

use std::collections::{BTreeMap, BTreeSet};

use herenow_client_core as sdk;
use herenow_coordinator_core as coordinator;
use herenow_protocol::frame::ManualStatus;
use herenow_protocol::message::{ClaimCommand, Up};
use herenow_protocol::record::Record;
use herenow_protocol::{Epoch, Partition, Status, UserKey};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;

use crate::net::Node;
use crate::people::number_of;
use crate::process::{Packet, user_id};
use crate::world::{Event, World};

/// How often coordinators write.
const INTERVAL_MS: u64 = 1_000;
/// How soon an owner asks again that had no answer.
const AGAIN_MS: u64 = 500;
/// Of so many users one says something now and then.
const SAYING: usize = 3;

/// Something that happens between coordinators and their store, or is said.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Happening {
    /// A coordinator's life writes what waits.
    Write(usize, u64),
    /// Its question is answered.
    Read(usize, u64, Partition, Epoch, u32),
    /// Somebody says something.
    Say(usize),
}

/// What a user said: the number of it; `None`: nothing.
type Saying = Option<u64>;

/// The store, and what is known of who said what.
#[derive(Debug)]
pub(crate) struct Store {
    rng: ChaCha8Rng,
    pub(crate) out_until: u64,
    kept: BTreeMap<UserKey, Record>,
    /// What coordinators have not written yet.
    waiting: BTreeMap<usize, BTreeMap<UserKey, Record>>,
    /// What each epoch read.
    read: BTreeMap<(Partition, Epoch), BTreeMap<UserKey, Saying>>,
    /// What each life of a coordinator was told.
    told: BTreeSet<(usize, u64, UserKey, u64)>,
    said: u64,
    /// In which order sayings came to coordinators first. What a device says while it is away comes later.
    arrived: BTreeMap<u64, usize>,
    /// Of those of a user that it was told are set, the one that came last.
    acknowledged: BTreeMap<usize, u64>,
}

impl Store {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed ^ 0x6b65_6570),
            out_until: 0,
            kept: BTreeMap::new(),
            waiting: BTreeMap::new(),
            read: BTreeMap::new(),
            told: BTreeSet::new(),
            said: 0,
            arrived: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
        }
    }

    /// A coordinator is dead, with what it had not written.
    pub(crate) fn lose(&mut self, coordinator: usize) {
        self.waiting.remove(&coordinator);
    }

    /// Of two, the newer stays.
    fn write(&mut self, coordinator: usize) {
        for (key, record) in self.waiting.remove(&coordinator).unwrap_or_default() {
            if self.kept.get(&key).is_none_or(|before| before.written < record.written) {
                self.kept.insert(key, record);
            }
        }
    }

    pub(crate) fn acknowledge(&mut self, user: usize, number: u64) {
        let last = self.acknowledged.entry(user).or_insert(number);
        if self.arrived.get(last) < self.arrived.get(&number) {
            *last = number;
        }
    }
}

fn saying(record: &Record) -> Saying {
    record.manual.as_ref()?.text.as_ref()?.parse().ok()
}

impl World {
    /// The first sayings, and after each the next.
    pub(crate) fn let_people_speak(&mut self, start: u64) {
        for user in (0..self.profile.users).filter(|user| user.is_multiple_of(SAYING)) {
            let at = start + self.store.rng.random_range(0..10_000);
            self.at(at, Event::Kept(Happening::Say(user)));
        }
    }

    /// A life of a coordinator begins to write.
    pub(crate) fn begin_to_write(&mut self, coordinator: usize) {
        let life = self.life(Node::Coordinator(coordinator));
        self.at(self.now + INTERVAL_MS, Event::Kept(Happening::Write(coordinator, life)));
    }

    pub(crate) fn on_kept(&mut self, happening: Happening) {
        match happening {
            Happening::Say(user) => self.say(user),
            Happening::Write(index, life) if self.lives(index, life) => {
                if self.now >= self.store.out_until && !self.coordinators[index].frozen {
                    self.store.write(index);
                }
                self.at(self.now + INTERVAL_MS, Event::Kept(happening));
            }
            Happening::Read(index, life, partition, epoch, attempt) if self.lives(index, life) => {
                if self.now >= self.store.out_until && !self.coordinators[index].frozen {
                    self.answer_load(index, partition, epoch, attempt);
                } else {
                    self.at(self.now + AGAIN_MS, Event::Kept(happening));
                }
            }
            Happening::Write(..) | Happening::Read(..) => {}
        }
    }

    fn lives(&self, index: usize, life: u64) -> bool {
        self.coordinators[index].core.is_some() && self.life(Node::Coordinator(index)) == life
    }

    /// An owner asks for its partition. The store is slow at times.
    pub(crate) fn load(&mut self, index: usize, partition: Partition, epoch: Epoch, attempt: u32) {
        let slow = self.store.rng.random_bool(0.1);
        let wait = self.store.rng.random_range(1..if slow { 6_000 } else { 40 });
        let life = self.life(Node::Coordinator(index));
        self.at(self.now + wait, Event::Kept(Happening::Read(index, life, partition, epoch, attempt)));
    }

    fn answer_load(&mut self, index: usize, partition: Partition, epoch: Epoch, attempt: u32) {
        let (first, last) = self.placement.keys_of(partition);
        let records: Vec<Record> =
            self.store.kept.range(first..=last).map(|(_, record)| record.clone()).collect();
        let read = records.iter().map(|record| (record.key, saying(record))).collect();
        self.note(|| format!("c{index} reads {partition} {epoch}: {read:?}"));
        self.store.read.insert((partition, epoch), read);
        let (left, right) = records.split_at(records.len() / 2);
        for (records, last) in [(left.to_vec(), false), (right.to_vec(), true)] {
            let newest = records.iter().map(|record| record.written.epoch).max().unwrap_or(Epoch::NONE);
            let input = coordinator::Input::Restored { partition, epoch, attempt, records, newest, last };
            self.coordinator_input(index, input);
        }
    }

    /// An owner wants something kept. It must be what it read, or was told.
    pub(crate) fn keep(&mut self, index: usize, record: Record) {
        let (key, life) = (record.key, self.life(Node::Coordinator(index)));
        let (partition, says) = (self.placement.partition(key), saying(&record));
        self.note(|| format!("c{index} keeps {} of {}: {says:?}", record.written, record.user));
        let told = says.is_some_and(|number| self.store.told.contains(&(index, life, key, number)));
        match self.store.read.get(&(partition, record.written.epoch)) {
            None => {
                let what = format!("c{index} writes {} unread", record.user);
                self.oracle.fail("R14", self.now, what);
            }
            Some(read) if !told && read.get(&key).copied().flatten() != says => {
                let what = format!(
                    "c{index} writes {says:?} of {}, which it neither read nor was told",
                    record.user
                );
                self.oracle.fail("R14", self.now, what);
            }
            Some(_) => {}
        }
        self.store.waiting.entry(index).or_default().insert(key, record);
    }

    /// A claim reaches a coordinator.
    pub(crate) fn note_told(&mut self, index: usize, packet: &Packet) {
        let Packet::Up(Up::Claim(request)) = packet else { return };
        if let ClaimCommand::Manual { text: Some(text), .. } = &request.command
            && let Ok(number) = text.parse()
        {
            let life = self.life(Node::Coordinator(index));
            self.store.told.insert((index, life, request.key, number));
            let order = self.store.arrived.len();
            self.store.arrived.entry(number).or_insert(order);
        }
    }

    /// Somebody says something on one of its devices, while the storm lasts.
    fn say(&mut self, user: usize) {
        let next = self.now + self.store.rng.random_range(2_000..15_000);
        if self.now >= self.storm_ends() {
            return;
        }
        self.at(next, Event::Kept(Happening::Say(user)));
        let device = user * 2 + self.store.rng.random_range(0..2);
        self.store.said += 1;
        let number = self.store.said;
        let input = sdk::Input::SetStatus {
            ticket: sdk::Ticket(number),
            status: ManualStatus::Auto,
            text: Some(number.to_string()),
            emoji: None,
            expires_at: None,
        };
        self.note(|| format!("client {device} says {number}"));
        self.sdk(device, input);
    }

    /// In the end everybody is shown what is kept; without faults that is what was acknowledged last, or later.
    pub(crate) fn judge_kept(&mut self, end: u64) {
        let kept = |user: usize| self.store.kept.get(&self.placement.key(&user_id(user))).and_then(saying);
        let mut wrong = Vec::new();
        for (index, client) in self.clients.iter().enumerate().filter(|(_, client)| client.is_connected()) {
            for presence in client.shown.values() {
                let user = number_of(&presence.user_id).unwrap_or_default();
                let words = presence.text.as_ref().and_then(|text| text.parse().ok());
                if presence.status != Status::Offline && user.is_multiple_of(SAYING) && words != kept(user) {
                    wrong.push(format!(
                        "client {index} shows {words:?} of user {user}, kept is {:?}",
                        kept(user)
                    ));
                }
            }
        }
        let calm = self.profile.faults == 0;
        for (user, number) in self.store.acknowledged.iter().filter(|_| calm) {
            let arrived = |number: u64| self.store.arrived.get(&number);
            if kept(*user).and_then(arrived) < arrived(*number) {
                wrong.push(format!("user {user} was told that {number} is set, kept is {:?}", kept(*user)));
            }
        }
        for what in wrong {
            self.oracle.fail("R14", end, what);
        }
    }
}
