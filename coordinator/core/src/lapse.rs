//! Gateways that come, come back, die and leave (R5, R6).

use herenow_protocol::{MonoTime, Now, Origin};

use crate::coordinator::Coordinator;
use crate::gateways::Hearing;
use crate::moving::moving_until;

impl Coordinator {
    /// Notes that a gateway is alive; false when it is an earlier life of one.
    pub(crate) fn hear(&mut self, origin: &Origin, now: Now) -> bool {
        match self.gateways.hear(origin, now.mono) {
            Hearing::Same => true,
            Hearing::New => {
                // Nobody knows yet what is watched there: everything goes to everybody until it says so.
                self.ownership.all_owned().for_each(|state| state.selective = false);
                true
            }
            Hearing::Ghost => false,
            Hearing::Reborn(before) => {
                let earlier = Origin { gateway: origin.gateway.clone(), incarnation: before };
                self.lapse(&earlier, now);
                self.ownership.all_owned().for_each(|state| state.selective = false);
                true
            }
        }
    }

    /// R6: the sessions of a gateway lapse together, and are given grace.
    pub(crate) fn lapse_dead(&mut self, now: Now) {
        for origin in self.gateways.take_dead(now.mono, &self.config) {
            self.lapse(&origin, now);
        }
    }

    /// A gateway that said it leaves is gone without a wait. What it still held moves.
    pub(crate) fn let_go(&mut self, now: Now) {
        for origin in self.gateways.take_left(now.mono, &self.config) {
            self.stats.left_gateways += 1;
            let grace = self.grace_of_all(&origin, now);
            self.lapse_until(&origin, moving_until(grace, now.mono, &self.config), now);
        }
    }

    fn lapse(&mut self, origin: &Origin, now: Now) {
        self.stats.lapsed_gateways += 1;
        let grace = self.grace_of_all(origin, now);
        self.lapse_until(origin, grace, now);
    }

    /// The grace of all sessions of a gateway when they are lost together.
    fn grace_of_all(&mut self, origin: &Origin, now: Now) -> MonoTime {
        let held = self.ownership.view_owned().filter_map(|state| state.streams.get(&origin.gateway));
        let lost: usize = held.map(|stream| stream.sessions.len()).sum();
        self.gateways.grace(&origin.gateway, lost as u64, now.mono, &self.config)
    }

    fn lapse_until(&mut self, origin: &Origin, until: MonoTime, now: Now) {
        self.gateways.mourned_until = self.gateways.mourned_until.max(until);
        self.resyncs.forget(&origin.gateway);
        for state in self.ownership.all_owned() {
            state.lapse(origin, until, now, &self.config);
        }
    }
}
