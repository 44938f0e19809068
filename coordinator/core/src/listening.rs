//! Whether a coordinator has listened for long enough to know every gateway (R8). Time for which it was cut off does not
//! count, and afterwards it waits for those that came meanwhile.

use herenow_protocol::MonoTime;
use herenow_protocol::time::millis;

use crate::Config;

#[derive(Debug)]
pub(crate) struct Listening {
    /// Since when it hears gateways, had it always heard.
    since: MonoTime,
    /// Since when it hears nothing, the last time.
    deaf_since: MonoTime,
    /// Until then it does not know who came while it was cut off.
    patient_until: MonoTime,
}

impl Listening {
    pub(crate) const fn new(now: MonoTime) -> Self {
        Self { since: now, deaf_since: now, patient_until: now }
    }

    /// It is found to be cut off: it has heard nothing since it last heard itself.
    pub(crate) fn cut_off(&mut self, now: MonoTime, config: &Config) {
        let since = now.as_millis().saturating_sub(millis(config.dead_after));
        self.deaf_since = MonoTime::from_millis(since).max(self.since);
    }

    /// It hears again.
    pub(crate) fn back(&mut self, now: MonoTime, config: &Config) {
        self.since = self.since.after(now.since(self.deaf_since));
        self.patient_until = now.after(config.gateway_stale.min(config.settle_after));
    }

    pub(crate) fn knows_all(&self, now: MonoTime, config: &Config) -> bool {
        now.since(self.since) >= config.settle_after && now >= self.patient_until
    }
}
