//! One open session: when to send a heartbeat, when to ask for a sign of life, when to give up.

use std::time::Duration;

use herenow_protocol::MonoTime;
use herenow_protocol::frame::Welcome;

/// No server makes a client beat more often than this.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(50);

/// What is due on a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Due {
    /// A heartbeat; with `ask`, one that asks for an answer.
    Beat { ask: bool },
    /// The connection is dead.
    Dead,
}

#[derive(Clone, Debug)]
pub(crate) struct Link {
    interval: Duration,
    timeout: Duration,
    pub(crate) up_since: MonoTime,
    last_heard: MonoTime,
    next_beat: MonoTime,
    asked: bool,
    pub(crate) activity_sent: Option<MonoTime>,
    pub(crate) activity_due: Option<MonoTime>,
    /// When to leave, after a `reconnect` frame, and why.
    pub(crate) leave: Option<(MonoTime, String)>,
}

impl Link {
    /// The session of `welcome`. `random`, from [0, 1), says where in the interval the first heartbeat falls, so that
    /// clients that came together do not beat together.
    pub(crate) fn new(welcome: &Welcome, random: f64, now: MonoTime) -> Self {
        let interval = Duration::from_millis(welcome.heartbeat_interval_ms).max(SHORTEST_INTERVAL);
        let timeout = Duration::from_millis(welcome.heartbeat_timeout_ms).max(interval);
        let first = crate::after_reconnect_frame(Duration::ZERO, interval, random);
        Self {
            interval,
            timeout,
            up_since: now,
            last_heard: now,
            next_beat: now.after(first),
            asked: false,
            activity_sent: None,
            activity_due: None,
            leave: None,
        }
    }

    pub(crate) fn heard(&mut self, now: MonoTime) {
        self.last_heard = now;
        self.asked = false;
    }

    /// Every frame is a sign of life to the gateway.
    pub(crate) fn sent(&mut self, now: MonoTime) {
        self.next_beat = now.after(self.interval);
    }

    pub(crate) fn asked(&mut self) {
        self.asked = true;
    }

    fn ask_at(&self) -> Option<MonoTime> {
        (!self.asked).then(|| self.last_heard.after(self.interval))
    }

    fn dead_at(&self) -> MonoTime {
        self.last_heard.after(self.timeout)
    }

    pub(crate) fn poll_timeout(&self) -> MonoTime {
        let beat = [Some(self.next_beat), self.ask_at(), self.activity_due].into_iter().flatten();
        let end = [Some(self.dead_at()), self.leave.as_ref().map(|leave| leave.0)].into_iter().flatten();
        beat.chain(end).min().unwrap_or(self.next_beat)
    }

    pub(crate) fn due(&self, now: MonoTime) -> Option<Due> {
        if now >= self.dead_at() {
            return Some(Due::Dead);
        }
        let ask = self.ask_at().is_some_and(|at| now >= at);
        let beat = now >= self.next_beat || self.activity_due.is_some_and(|at| now >= at);
        (ask || beat).then_some(Due::Beat { ask })
    }
}
