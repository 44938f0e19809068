//! A backend that keeps a copy of everybody by the numbered stream, and repairs it by fetching pages: as
//! `docs/PROTOCOL.md` tells it to in NATS-7 to NATS-11, and nothing more.

use std::collections::{BTreeMap, BTreeSet};

use herenow_protocol::api::{Changes, PartitionPage};
use herenow_protocol::message::{ListRequest, Up};
use herenow_protocol::{Partition, Presence, Status, UserId};

use crate::net::Node;
use crate::people::number_of;
use crate::process::Packet;
use crate::world::{Event, World};

/// Where the backend is on the bus: beyond every gateway there is.
const PLACE: Node = Node::Gateway(usize::MAX);
/// How often it looks whether it lacks an answer or an end.
const TICK_MS: u64 = 500;
/// How long it waits for a page, and how often it looks for a lost end: in ticks.
const PATIENCE: u64 = 2;
const LOOKS: u64 = 4;
/// For how many ticks owners must answer under a lower epoch before it is believed.
const LOWER: u64 = 10;

/// What comes to a backend.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    Changes(Changes),
    Page(String, Box<PartitionPage>),
}

impl Told {
    const fn partition(&self) -> Partition {
        match self {
            Self::Changes(batch) => batch.partition,
            Self::Page(_, page) => page.partition,
        }
    }
}

/// The copy of one partition.
#[derive(Debug, Default)]
pub(crate) struct Copy {
    /// As text: it orders as the epoch does.
    epoch: String,
    n: u64,
    settled: bool,
    users: BTreeMap<UserId, Presence>,
    fetch: Option<Fetch>,
    /// What came while it fetched.
    kept: Vec<Changes>,
    /// At which tick owners began to answer under a lower epoch, and nobody under this one since.
    lower_since: Option<u64>,
}

#[derive(Debug, Default)]
struct Fetch {
    reply: String,
    asked: u64,
    /// Only the first page, to compare.
    looks: bool,
    first: Option<(String, u64)>,
    settled: bool,
    listed: BTreeSet<UserId>,
}

impl Copy {
    /// Who is there, as far as it tells.
    fn here(&self) -> BTreeSet<UserId> {
        let here = self.users.values().filter(|user| matches!(user.status, Status::Online | Status::Idle));
        here.map(|user| user.user_id.clone()).collect()
    }

    fn take(&mut self, record: Presence) {
        let newer = self.users.get(&record.user_id).is_none_or(|known| known.version < record.version);
        if newer {
            self.users.insert(record.user_id.clone(), record);
        }
    }

    /// NATS-9. False: the partition must be fetched.
    fn follow(&mut self, batch: Changes) -> bool {
        if batch.epoch >= self.epoch {
            self.lower_since = None;
        }
        if batch.epoch != self.epoch {
            return batch.epoch < self.epoch;
        }
        if batch.prev > self.n {
            return false;
        }
        if batch.last > self.n {
            self.n = batch.last;
            batch.changes.into_iter().for_each(|change| self.take(change.presence));
        }
        true
    }

    /// Takes a page. `Some`: what to ask for next, if anything; `None`: it was not the page that was asked for, or
    /// makes no whole with those before.
    fn page(&mut self, reply: &str, page: PartitionPage, tick: u64) -> Option<Option<String>> {
        let fetch = self.fetch.as_mut().filter(|fetch| fetch.reply == reply)?;
        if page.epoch < self.epoch {
            // NATS-9: whoever knew of the higher epoch is gone.
            if tick >= *self.lower_since.get_or_insert(tick) + LOWER {
                *self = Self::default();
            }
            return None;
        }
        self.lower_since = None;
        if fetch.looks {
            let same = page.epoch == self.epoch && page.n == self.n && page.settled == self.settled;
            self.fetch = None;
            return if same { Some(None) } else { None };
        }
        let first = fetch.first.get_or_insert((page.epoch.clone(), page.n));
        if first.0 != page.epoch {
            return None;
        }
        fetch.settled = page.settled;
        fetch.listed.extend(page.users.iter().map(|user| user.user_id.clone()));
        for record in page.users {
            self.take(record);
        }
        if page.next.is_none() {
            self.whole();
        }
        Some(page.next)
    }

    /// NATS-8 and NATS-10: every page has come.
    fn whole(&mut self) {
        let Some(Fetch { first: Some((epoch, n)), settled, listed, .. }) = self.fetch.take() else { return };
        if settled {
            self.users.retain(|user, _| listed.contains(user));
        }
        (self.epoch, self.n, self.settled) = (epoch, n, settled);
    }
}

impl World {
    /// A coordinator tells backends something.
    pub(crate) fn tell_backend(&mut self, index: usize, told: &Told) {
        let from = Node::Coordinator(index);
        for at in self.net.arrivals(from, PLACE, false, self.now, &mut self.rng) {
            self.at(at, Event::ToBackend(Box::new(told.clone())));
        }
    }

    pub(crate) fn backend_hears(&mut self, told: Told) {
        let partition = told.partition();
        let before = self.copies.entry(partition).or_default().here();
        self.note(|| format!("a backend hears {told:?}"));
        self.backend_takes(told);
        let copy = self.copies.entry(partition).or_default();
        if copy.epoch.is_empty() {
            // It has thrown away all it had, and nobody told it to believe that nobody is there.
            return;
        }
        for user in before.iter().filter(|user| !copy.users.contains_key(*user)).filter_map(number_of) {
            self.oracle.left_out(&self.clients, user, self.now);
        }
    }

    fn backend_takes(&mut self, told: Told) {
        match told {
            Told::Changes(batch) => {
                let partition = batch.partition;
                let copy = self.copies.entry(partition).or_default();
                if copy.fetch.as_ref().is_some_and(|fetch| !fetch.looks) {
                    copy.kept.push(batch);
                } else if !copy.follow(batch) {
                    self.fetch(partition, false);
                }
            }
            Told::Page(reply, page) => {
                let partition = page.partition;
                let copy = self.copies.entry(partition).or_default();
                let tick = self.backend_ticks;
                let fetching = copy.fetch.as_ref().is_some_and(|fetch| fetch.reply == reply);
                match copy.page(&reply, *page, tick) {
                    Some(Some(next)) => self.ask_page(partition, Some(next)),
                    Some(None) => self.catch_up(partition),
                    None if fetching => self.fetch(partition, false),
                    None => {}
                }
            }
        }
    }

    /// What came meanwhile is applied after the pages.
    fn catch_up(&mut self, partition: Partition) {
        let copy = self.copies.entry(partition).or_default();
        let kept = std::mem::take(&mut copy.kept);
        if !kept.into_iter().all(|batch| copy.follow(batch)) {
            self.fetch(partition, false);
        }
    }

    fn fetch(&mut self, partition: Partition, looks: bool) {
        self.backend_asks += 1;
        let reply = format!("reply {}", self.backend_asks);
        let copy = self.copies.entry(partition).or_default();
        copy.fetch = Some(Fetch { reply, asked: self.backend_ticks, looks, ..Fetch::default() });
        self.ask_page(partition, None);
    }

    fn ask_page(&mut self, partition: Partition, after: Option<String>) {
        let Some(fetch) = self.copies.get_mut(&partition).and_then(|copy| copy.fetch.as_mut()) else {
            return;
        };
        fetch.asked = self.backend_ticks;
        let after = after.and_then(|after| after.parse().ok());
        let request = ListRequest { partition, reply: fetch.reply.clone(), after };
        self.ask_owner(PLACE, &Packet::Up(Up::List(request)), partition);
    }

    /// Answers that do not come are asked for again; now and then it looks whether an end was lost.
    pub(crate) fn backend_tick(&mut self) {
        self.backend_ticks += 1;
        self.ask_over_rest();
        let partitions: Vec<Partition> = self.placement.all().collect();
        for partition in partitions {
            let copy = self.copies.entry(partition).or_default();
            match &copy.fetch {
                Some(fetch) if self.backend_ticks > fetch.asked + PATIENCE => {
                    let looks = fetch.looks;
                    self.fetch(partition, looks);
                }
                None if self.backend_ticks.is_multiple_of(LOOKS) => self.fetch(partition, true),
                Some(_) | None => {}
            }
        }
        self.at(self.now + TICK_MS, Event::BackendTick);
    }

    /// I3, I5: at the end the copy is the truth.
    pub(crate) fn judge_backend(&mut self) {
        for user in 0..self.profile.users {
            let id = crate::process::user_id(user);
            let partition = self.placement.partition(self.placement.key(&id));
            let known = self.copies.get(&partition).and_then(|copy| copy.users.get(&id));
            let shown = known.map_or((Status::Offline, None), |known| (known.status, known.text.as_deref()));
            self.oracle.copied(&self.clients, user, shown, self.now);
        }
    }
}
