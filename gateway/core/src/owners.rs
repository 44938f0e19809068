//! What owners say, and what this gateway asks of them (R2, R4, R9, R11).

use std::time::Duration;

use hashbrown::HashSet;
use herenow_protocol::message::{CoordinatorBeat, Delta, Fenced, OwnedBeat, Pull, Snapshot, ToGateway, Up};
use herenow_protocol::{CoordinatorId, Epoch, MonoTime, Now, Partition, UserKey, WallTime};

use crate::gateway::Gateway;
use crate::request::{Answer, Due, PullState};
use crate::view::{Fit, View};
use crate::watch::{Known, Tell};
use crate::{Output, Slot};

impl Gateway {
    /// R2: judges an epoch. False when it is over: its sender is told. A higher one is adopted with a resync.
    fn follow(
        &mut self,
        from: Option<&CoordinatorId>,
        partition: Partition,
        epoch: Epoch,
        now: Now,
        out: &mut Vec<Output>,
    ) -> bool {
        let seen = self.epoch(partition);
        if epoch == seen && from.is_some_and(|from| self.is_second(partition, from)) {
            self.stats.owners_doubled += 1;
        }
        if epoch < seen {
            self.stats.fenced += 1;
            if let Some(from) = from {
                out.push(Output::Fenced(from.clone(), Fenced { partition, seen }));
            }
            return false;
        }
        if epoch > seen {
            if let Some(number) = self.view(partition).and_then(|view| view.adopt(epoch)) {
                self.pending.pulls.remove(&number);
            }
            self.send_sync(partition, now.mono, out);
            self.pull_all(partition, now.mono, out);
        }
        true
    }

    /// I2: under one epoch one coordinator speaks.
    fn is_second(&mut self, partition: Partition, from: &CoordinatorId) -> bool {
        let Some(view) = self.view(partition) else { return false };
        view.owner.get_or_insert_with(|| from.clone()) != from
    }

    /// Who alone is told, so that what one turn says to it goes as one message. None where the owner is not known: then it
    /// goes by partition.
    #[must_use]
    pub fn addressee(&self, up: &Up, now: MonoTime) -> Option<&CoordinatorId> {
        self.owner(up.partition(), now)
    }

    /// Who owns a partition, as far as is known: whoever spoke first under the highest epoch seen, if it was heard of late.
    fn owner(&self, partition: Partition, now: MonoTime) -> Option<&CoordinatorId> {
        let view = self.views.get(partition.index()).filter(|view| view.is_heard(now, &self.config))?;
        view.owner.as_ref()
    }

    /// R3: tells the owner everything about a partition.
    fn send_sync(&mut self, partition: Partition, now: MonoTime, out: &mut Vec<Output>) {
        let epoch = self.epoch(partition);
        let sessions = &self.sessions;
        let record = |slot: Slot| sessions.get(slot.0 as usize).and_then(Option::as_ref).map(|s| s.record());
        let mut sent = 0;
        self.uplink.sync(partition, epoch, now, record, &mut |up| {
            sent += 1;
            out.push(Output::Up(up));
        });
        self.stats.syncs += sent;
    }

    pub(crate) fn on_beat(&mut self, beat: &CoordinatorBeat, now: Now, out: &mut Vec<Output>) {
        let mut settled = HashSet::new();
        for owned in &beat.owned {
            if self.follow(Some(&beat.id), owned.partition, owned.epoch, now, out) {
                let settling = self.is_settling(owned.partition);
                self.on_owned(*owned, beat.clock, now, out);
                if settling && !self.is_settling(owned.partition) {
                    settled.insert(owned.partition);
                }
            }
        }
        self.ask_early(&settled, now.mono, out);
    }

    /// How long what a beat tells of may be under way.
    fn tail(&self) -> Duration {
        self.pending.patience.tail(self.config.tail_patience)
    }

    fn is_settling(&self, partition: Partition) -> bool {
        self.views.get(partition.index()).is_some_and(View::is_settling)
    }

    /// Owners that have settled are asked for whom they left out before.
    fn ask_early(&mut self, settled: &HashSet<Partition>, now: MonoTime, out: &mut Vec<Output>) {
        if settled.is_empty() {
            return;
        }
        let early = |pull: &PullState| pull.early && settled.contains(&pull.partition);
        let pulls = self.pending.pulls.iter().filter(|(_, pull)| early(pull));
        let mut numbers: Vec<u64> = pulls.map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        for number in numbers {
            self.send_pull(number, now, out);
        }
    }

    fn on_owned(&mut self, owned: OwnedBeat, clock: u64, now: Now, out: &mut Vec<Output>) {
        let (prompt, tail) = (now.mono >= self.late_until, self.tail());
        let Some(view) = self.views.get_mut(owned.partition.index()) else { return };
        if view.hear(owned, clock, prompt, now, &self.config, tail) {
            self.pull_all(owned.partition, now.mono, out);
        }
        self.state_interest(owned.partition, owned.by_user, now.mono, out);
    }

    pub(crate) fn on_delta(&mut self, delta: Delta, now: Now, out: &mut Vec<Output>) {
        if !self.follow(Some(&delta.from), delta.partition, delta.epoch, now, out) {
            return;
        }
        self.stats.deltas += 1;
        let partition = delta.partition;
        let Some(view) = self.view(partition) else { return };
        match view.judge(delta.prev, delta.last) {
            Fit::Old => return,
            Fit::Next => view.n = delta.last,
            Fit::Gap => {
                self.stats.gaps += 1;
                self.pull_all(partition, now.mono, out);
            }
        }
        // Also beyond a gap: each value stands for itself, and is taken only if newer.
        for entry in delta.entries {
            let key = entry.key;
            if self.watch.find(partition, key).is_some() {
                self.learn(partition, key, Known::new(delta.epoch, entry), now, out);
            }
        }
    }

    pub(crate) fn on_message(&mut self, message: ToGateway, now: Now, out: &mut Vec<Output>) {
        match message {
            ToGateway::Resync { partition, epoch, incarnation } => {
                if incarnation == self.uplink.origin().incarnation {
                    self.on_resync(partition, epoch, now, out);
                }
            }
            ToGateway::Reinterest { partition, epoch, incarnation } => {
                if incarnation == self.uplink.origin().incarnation {
                    self.on_reinterest(partition, epoch, now, out);
                }
            }
            ToGateway::Delta(delta) => self.on_delta(delta, now, out),
            ToGateway::Advanced(advanced) => self.on_advanced(advanced, now, out),
            ToGateway::Differs { partition, epoch } => {
                if epoch == self.epoch(partition) {
                    self.pull_anew(partition, now, out);
                }
            }
            ToGateway::Snapshot(snapshot) => self.on_snapshot(snapshot, now, out),
            ToGateway::ClaimDone(done) => self.on_claim_done(*done, now, out),
            ToGateway::Explained { request, json } => self.on_explained(request, &json, out),
        }
    }

    fn on_resync(&mut self, partition: Partition, epoch: Epoch, now: Now, out: &mut Vec<Output>) {
        let new = epoch > self.epoch(partition);
        if self.follow(None, partition, epoch, now, out) && !new {
            self.send_sync(partition, now.mono, out);
        }
    }

    fn on_snapshot(&mut self, snapshot: Snapshot, now: Now, out: &mut Vec<Output>) {
        let partition = snapshot.partition;
        if !self.follow(Some(&snapshot.from), partition, snapshot.epoch, now, out) {
            return;
        }
        let pull = self.pending.pulls.get_mut(&snapshot.request);
        let Some(pull) = pull.filter(|pull| pull.partition == partition) else { return };
        let request = pull.request;
        if request.is_some()
            && let Some(view) = self.views.get_mut(partition.index()).filter(|view| view.pulling.is_some())
        {
            view.floor = Some(view.floor.map_or(snapshot.n, |floor| floor.min(snapshot.n)));
        }
        if snapshot.page == 0 {
            (pull.epoch, pull.pages) = (snapshot.epoch, 0);
            pull.listed.clear();
        }
        let whole = pull.epoch == snapshot.epoch && pull.pages == snapshot.page;
        pull.pages = if whole { pull.pages.saturating_add(1) } else { u16::MAX };
        pull.listed.extend(snapshot.entries.iter().map(|entry| entry.key));
        let Snapshot { request: number, n, settled, as_of, clock, last, .. } = snapshot;
        pull.clock = clock;
        if let Some(view) = self.views.get_mut(partition.index()).filter(|_| as_of.is_some()) {
            view.doubted_at = Some(now.mono);
        }
        for entry in snapshot.entries {
            let key = entry.key;
            let known = Known { doubted: as_of.is_some(), ..Known::new(snapshot.epoch, entry) };
            let answer = Answer { known, as_of };
            self.learn_answer(request, partition, key, answer, now, out);
        }
        if last && whole {
            self.on_pulled(number, n, settled, as_of, now, out);
        }
    }

    /// Takes a value that an owner sent because it was asked for it. A question is answered only by the owner's
    /// answer to it: anything else may be older than what the asker has just written.
    fn learn_answer(
        &mut self,
        request: Option<u64>,
        partition: Partition,
        key: UserKey,
        answer: Answer,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let known = answer.known.clone();
        let complete = request.is_some_and(|number| self.pending.learn(number, key, answer));
        self.learn(partition, key, known, now, out);
        if let Some(number) = request.filter(|_| complete) {
            self.answer(number, now, out);
        }
    }

    /// A pull is answered in full. If the owner is settled, whoever it did not list was never seen (R9).
    fn on_pulled(
        &mut self,
        number: u64,
        n: u64,
        settled: bool,
        as_of: Option<WallTime>,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let Some(mut pull) = self.pending.pulls.remove(&number) else { return };
        if let Some(asked) = pull.asked.take() {
            self.pending.patience.answered(now.mono.since(asked));
        }
        let unlisted: Vec<UserKey> =
            pull.users.iter().filter(|key| !pull.listed.contains(*key)).copied().collect();
        if settled {
            for key in unlisted {
                let answer = Answer {
                    known: Known { doubted: as_of.is_some(), ..Known::never_seen(pull.epoch) },
                    as_of,
                };
                self.learn_answer(pull.request, pull.partition, key, answer, now, out);
            }
        } else if pull.request.is_some() && !unlisted.is_empty() {
            // Not answered yet for these: asked again until the question falls due.
            pull.rest.extend(unlisted);
        }
        let first_n = *pull.n.get_or_insert(n);
        if pull.rest.is_empty() {
            self.pull_done(&pull, first_n, settled, as_of, now);
            return;
        }
        let wait = !settled && pull.request.is_some();
        pull.early = wait;
        pull.next_page();
        self.pending.pulls.insert(number, pull);
        if !wait {
            self.send_pull(number, now.mono, out);
        }
    }

    fn pull_done(&mut self, pull: &PullState, n: u64, settled: bool, as_of: Option<WallTime>, now: Now) {
        if pull.request.is_some() {
            return;
        }
        let tail = self.tail();
        let Some(view) = self.views.get_mut(pull.partition.index()) else { return };
        view.pulling = None;
        view.take_snapshot(n, settled);
        let (partition, epoch, doubts) = (pull.partition, pull.epoch, as_of.is_some());
        let said = OwnedBeat { partition, epoch, n, settled, doubts, by_user: false };
        view.date(pull.sent, pull.clock, said, now.mono);
        view.check(now, tail);
    }

    /// Asks the owner of a partition for users.
    pub(crate) fn pull(
        &mut self,
        partition: Partition,
        request: Option<u64>,
        users: Vec<UserKey>,
        now: MonoTime,
        out: &mut Vec<Output>,
    ) -> u64 {
        let number = self.pending.number();
        let mut state = PullState {
            partition,
            request,
            users: Vec::new(),
            rest: users,
            sent: now,
            clock: 0,
            due: now,
            asked: None,
            early: false,
            n: None,
            epoch: Epoch::NONE,
            pages: 0,
            listed: HashSet::new(),
        };
        state.next_page();
        self.pending.pulls.insert(number, state);
        self.send_pull(number, now, out);
        number
    }

    pub(crate) fn send_pull(&mut self, number: u64, now: MonoTime, out: &mut Vec<Output>) {
        let patience = self.pending.patience.again(self.config.pull_timeout);
        let due = now.after(self.draw(patience, patience + patience / 4));
        let Some(pull) = self.pending.pulls.get_mut(&number) else { return };
        pull.due = due;
        pull.asked.get_or_insert(now);
        pull.early = false;
        let origin = self.uplink.origin().clone();
        let (partition, users) = (pull.partition, pull.users.clone());
        // Who is asked for is watched from now on: said before, nothing can change unheard in between.
        self.flush_urgent_interest(out);
        let interest = self.stated(partition);
        let message = Pull { origin, partition, request: number, interest, users };
        self.stats.pulls += 1;
        out.push(Output::Up(Up::Pull(message)));
        self.pending.at(due, Due::Pull(number));
    }

    /// Looks for what beats told of and has not come, and tells watchers where trust has changed.
    pub(crate) fn check_views(&mut self, now: Now, out: &mut Vec<Output>) {
        let (mut stale, tail) = (0, self.tail());
        for partition in self.placement.all() {
            if self.watch.is_empty(partition) {
                continue;
            }
            let Some(view) = self.views.get_mut(partition.index()) else { continue };
            let (heard, behind) = (view.is_heard(now.mono, &self.config), view.check(now, tail));
            let turned = now.mono >= self.patient_until && view.has_turned(now.mono, &self.config);
            stale += u64::from(!heard);
            if behind && heard {
                self.pull_all(partition, now.mono, out);
            }
            if turned {
                for index in self.watch.members(partition) {
                    self.tell(index, Tell::All, now, out);
                }
            }
        }
        self.stats.stale_partitions = stale;
    }
}
