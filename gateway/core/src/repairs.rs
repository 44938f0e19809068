//! How many partitions are asked for in full at once (R9, R10), so that a gateway that comes back is no storm.
//!
//! A few partitions at a time are asked for whoever is watched there, and only they are told who that is; each answer makes
//! room for the next. One whose answer does not come gives way to those that wait. Whoever waits shows nothing as certain:
//! its view has said already that something is missing.

use herenow_protocol::{MonoTime, Now, Partition};

use crate::Output;
use crate::gateway::Gateway;
use crate::request::Due;
use crate::view::View;

impl Gateway {
    /// Partitions that are asked for in full now.
    pub(crate) fn repairs(&self) -> usize {
        self.views.iter().filter(|view| view.pulling.is_some()).count()
    }

    /// Asks the owner for everything watched in a partition, at once or when it is its turn; one such pull at a time. That
    /// nobody is watched there is a statement too: an owner sends less only to gateways that have all said what they need.
    pub(crate) fn pull_all(&mut self, partition: Partition, now: MonoTime, out: &mut Vec<Output>) {
        let under_way = self.view(partition).is_none_or(|view| view.pulling.is_some());
        let needless = self.watch.is_empty(partition) && !self.is_unstated(partition);
        if under_way || needless || self.unrepaired.contains(&partition) {
            return;
        }
        self.unrepaired.push_back(partition);
        self.repair_next(now, out);
    }

    /// Asks for everything watched in a partition, whatever was asked before.
    pub(crate) fn pull_anew(&mut self, partition: Partition, now: Now, out: &mut Vec<Output>) {
        if let Some(pull) = self.view(partition).and_then(View::restart) {
            self.pending.pulls.remove(&pull);
        }
        self.pull_all(partition, now.mono, out);
    }

    /// Begins as many repairs as there is room for.
    pub(crate) fn repair_next(&mut self, now: MonoTime, out: &mut Vec<Output>) {
        while !self.unrepaired.is_empty() && self.repairs() < self.config.max_repairs {
            if let Some(partition) = self.unrepaired.pop_front() {
                self.repair(partition, now, out);
            }
        }
    }

    fn repair(&mut self, partition: Partition, now: MonoTime, out: &mut Vec<Output>) {
        // Said before, nothing can change unheard in between.
        self.state_anew(partition, out);
        let keys = self.watch.keys(partition);
        if keys.is_empty() {
            return;
        }
        let number = self.pull(partition, None, keys, now, out);
        if let Some(view) = self.view(partition) {
            view.begin_pull(number);
        }
    }

    /// No answer in time: the same is asked again, so that an answer may take longer than that. For what is watched only
    /// while an owner is heard, since the next beat asks otherwise, and while nobody waits who has waited for long. An owner
    /// that answered that it has not settled is not asked for the others before it says that it has.
    pub(crate) fn pull_again(&mut self, number: u64, now: MonoTime, out: &mut Vec<Output>) {
        // What fell due may be an earlier page, answered long since.
        let Some(pull) = self.pending.pulls.get(&number).filter(|pull| pull.due <= now) else { return };
        let (partition, question) = (pull.partition, pull.request.is_some());
        let hopeless = now.since(pull.sent) >= self.config.request_timeout;
        let Some(view) = self.views.get_mut(partition.index()) else { return };
        let heard = view.is_heard(now, &self.config);
        if pull.early && heard && view.is_settling() {
            let due = now.after(self.config.pull_timeout);
            if let Some(pull) = self.pending.pulls.get_mut(&number) {
                pull.due = due;
            }
            self.pending.at(due, Due::Pull(number));
            return;
        }
        let gives_way = hopeless && !self.unrepaired.is_empty();
        if question || (heard && !gives_way) {
            self.send_pull(number, now, out);
            return;
        }
        view.pulling = None;
        self.pending.pulls.remove(&number);
        if heard {
            self.pull_all(partition, now, out);
        }
    }
}
