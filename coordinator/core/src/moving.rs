//! Gateways that leave in order: nobody waits for their silence, and their sessions count on while their devices come
//! back elsewhere.

use herenow_protocol::message::{Ending, SessionChange};
use herenow_protocol::{GatewayId, MonoTime, Now, Origin};

use crate::Config;
use crate::gateways::Gateways;

impl Gateways {
    /// The gateway has said its last word. Reports that it sent before may still be under way.
    pub(crate) fn note_left(&mut self, origin: &Origin, now: MonoTime) {
        let heard =
            self.known.get_mut(&origin.gateway).filter(|heard| heard.incarnation == origin.incarnation);
        if let Some(heard) = heard {
            heard.left_at.get_or_insert(now);
        }
    }

    /// Takes out whoever has left, once what was under way has had its time.
    pub(crate) fn take_left(&mut self, now: MonoTime, config: &Config) -> Vec<Origin> {
        self.left.retain(|_, (_, at)| now.since(*at) < config.gateway_timeout);
        let patience = config.tail_patience;
        let gone =
            self.known.extract_if(.., |_, heard| heard.left_at.is_some_and(|at| now.since(at) >= patience));
        let gone: Vec<Origin> =
            gone.map(|(gateway, heard)| Origin { gateway, incarnation: heard.incarnation }).collect();
        for origin in &gone {
            self.left.insert(origin.gateway.clone(), (origin.incarnation, now));
        }
        gone
    }

    /// Until when a session that ended so now counts.
    pub(crate) fn counts_until(
        &mut self,
        gateway: &GatewayId,
        how: Option<Ending>,
        now: Now,
        config: &Config,
    ) -> MonoTime {
        let lost = u64::from(how.is_some_and(Ending::is_waited_for));
        let grace = self.grace(gateway, lost, now.mono, config);
        if how == Some(Ending::Moving) { moving_until(grace, now.mono, config) } else { grace }
    }
}

/// Until when a session that moves counts: never shorter than the grace, which grows with the wave.
pub(crate) fn moving_until(grace: MonoTime, now: MonoTime, config: &Config) -> MonoTime {
    grace.max(now.after(config.moving_window))
}

/// How the change ends a session, if it does.
pub(crate) const fn ending(change: &SessionChange) -> Option<Ending> {
    match change {
        SessionChange::Closed { how, .. } => Some(*how),
        SessionChange::Opened(_) | SessionChange::Activity { .. } => None,
    }
}
