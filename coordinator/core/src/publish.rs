//! How transitions leave (R9, R13): in numbered deltas for gateways, in numbered batches for backends.

use herenow_protocol::api::{Change, Changes};
use herenow_protocol::message::{Delta, Entry, ToGateway};
use herenow_protocol::{CoordinatorId, MonoTime};

use crate::partition::PartitionState;
use crate::selective::send_levels;
use crate::{Config, Output};

/// Most entries of one delta: with the longest texts, twice each, a message stays under its limit.
pub(crate) const DELTA_ENTRIES: usize = 150;

impl PartitionState {
    /// When what waits is to be published: at once after a silence of one window, else at its end.
    pub(crate) fn publish_due(&self, config: &Config) -> Option<MonoTime> {
        let waits = self.n > self.outbox.published;
        let due = self.outbox.published_at.map_or(MonoTime::default(), |at| at.after(config.publish_window));
        waits.then_some(due)
    }

    /// Publishes what waits.
    pub(crate) fn publish(
        &mut self,
        from: &CoordinatorId,
        now: MonoTime,
        config: &Config,
        out: &mut Vec<Output>,
    ) {
        if self.n == self.outbox.published {
            return;
        }
        self.publish_deltas(from, out);
        self.publish_changes(config, out);
        for transition in self.outbox.transitions.drain(..) {
            out.push(Output::Transition(Box::new(transition)));
        }
        self.outbox.published = self.n;
        self.outbox.published_at = Some(now);
    }

    fn publish_deltas(&mut self, from: &CoordinatorId, out: &mut Vec<Output>) {
        let entries = std::mem::take(&mut self.outbox.entries);
        if self.selective {
            for (gateway, prev, entries) in self.interests.sort(&entries, self.n) {
                let send = |delta| out.push(Output::ToGateway(gateway.clone(), ToGateway::Delta(delta)));
                self.pages(from, prev, entries, send);
            }
        } else {
            // The next goes to everybody: nobody shall miss what was not for it.
            send_levels(from, self.level(), out);
            self.pages(from, self.outbox.published, entries, |delta| out.push(Output::Down(delta)));
            self.interests.note_broadcast(self.n);
        }
    }

    /// One stream's next deltas, from the number it ended at to the present one.
    fn pages(&self, from: &CoordinatorId, prev: u64, entries: Vec<Entry>, mut send: impl FnMut(Delta)) {
        let mut prev = prev;
        let mut entries = entries.into_iter().peekable();
        while entries.peek().is_some() {
            let page: Vec<_> = entries.by_ref().take(DELTA_ENTRIES).collect();
            let end = page.last().map_or(self.n, Entry::n);
            let last = if entries.peek().is_some() { end } else { self.n };
            let delta = Delta {
                from: from.clone(),
                partition: self.partition,
                epoch: self.epoch,
                prev,
                last,
                entries: page,
            };
            send(delta);
            prev = last;
        }
    }

    fn publish_changes(&mut self, config: &Config, out: &mut Vec<Output>) {
        let mut prev = self.outbox.published;
        let mut changes = std::mem::take(&mut self.outbox.changes).into_iter().peekable();
        if changes.peek().is_none() {
            // Only what a hidden user sees of itself has changed: backends follow the numbers all the same.
            out.push(Output::Changes(self.batch(prev, self.n, Vec::new())));
        }
        while changes.peek().is_some() {
            let page: Vec<_> = changes.by_ref().take(DELTA_ENTRIES).collect();
            let end = page.last().map_or(self.n, |(n, _)| *n);
            let last = if changes.peek().is_some() { end } else { self.n };
            let page: Vec<Change> = page.into_iter().map(|(_, change)| change).collect();
            if config.publish_user_subjects {
                let each =
                    page.iter().map(|c| Output::UserChange(c.presence.user_id.clone(), Box::new(c.clone())));
                out.extend(each);
            }
            out.push(Output::Changes(self.batch(prev, last, page)));
            prev = last;
        }
    }

    fn batch(&self, prev: u64, last: u64, changes: Vec<Change>) -> Changes {
        Changes { partition: self.partition, epoch: self.epoch.to_string(), prev, last, changes }
    }
}
