//! The end of a gateway in order: every client is told to come back elsewhere, and its session moves rather than ends.

use herenow_protocol::frame::ServerFrame;
use herenow_protocol::message::Ending;
use herenow_protocol::time::millis;
use herenow_protocol::{MonoTime, Now};

use crate::gateway::{Gateway, epoch_of};
use crate::{Output, Slot};

impl Gateway {
    /// Tells every client to come back at a moment of its own within the window.
    pub(crate) fn drain(&mut self, within_ms: u64, now: Now, out: &mut Vec<Output>) {
        let until = now.mono.after(std::time::Duration::from_millis(within_ms));
        self.draining = Some(until);
        for slot in self.open_slots() {
            self.post(slot, &reconnect(until, now), now, out);
        }
    }

    /// What an ending means now: who goes from a gateway that sends everybody elsewhere is on its way there.
    pub(crate) const fn ending(&self, how: Ending) -> Ending {
        match how {
            Ending::Lost if self.draining.is_some() => Ending::Moving,
            Ending::Lost | Ending::Moving | Ending::Bye | Ending::Silent => how,
        }
    }

    /// The last words: how every session ended, and that nothing follows. A coordinator that hears them waits neither
    /// for this gateway nor for its silence.
    pub(crate) fn leave(&mut self, now: Now, out: &mut Vec<Output>) {
        self.draining.get_or_insert(now.mono);
        for slot in self.open_slots() {
            self.closed(slot, Ending::Moving, now, out);
        }
        let views = &self.views;
        let mut reports = 0;
        self.uplink.flush_all(now.mono, |p| epoch_of(views, p), &mut |up| {
            reports += 1;
            out.push(Output::Up(up));
        });
        self.stats.reports += reports;
        self.left = true;
        self.beat(now.mono, out);
    }

    fn open_slots(&self) -> Vec<Slot> {
        let slots = (0..).map(Slot).zip(&self.sessions);
        let open = slots.filter(|(_, session)| session.as_ref().is_some_and(|session| !session.over));
        open.map(|(slot, _)| slot).collect()
    }
}

pub(crate) fn reconnect(until: MonoTime, now: Now) -> ServerFrame {
    let within_ms = millis(until.since(now.mono));
    ServerFrame::Reconnect { after_ms: 0, within_ms, reason: "shutdown".to_owned() }
}
