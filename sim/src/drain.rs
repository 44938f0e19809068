//! A gateway that leaves in order: its clients are told to come back elsewhere, and nobody may see them go.

use herenow_gateway_core as gateway;
use herenow_gateway_core::Slot;
use herenow_protocol::code::CloseCode;
use herenow_protocol::message::Ending;

use crate::client::Link;
use crate::fault::Fault;
use crate::net::Node;
use crate::world::{Event, Heal, World};

/// How soon a stopped process is looked at again that was to leave.
const AGAIN_MS: u64 = 100;

impl Fault {
    /// Whether what only owners know may be lost by it.
    pub(crate) const fn may_lose_what_owners_know(&self) -> bool {
        match self {
            Self::Crash(node, _)
            | Self::Freeze(node, _)
            | Self::Cut(node, ..)
            | Self::Lag(node, ..)
            | Self::Die(node) => matches!(node, Node::Coordinator(_)),
            Self::Loss(..)
            | Self::Sever(..)
            | Self::ArbiterOut(_)
            | Self::ArbiterUnsure(_)
            | Self::StoreOut(_)
            | Self::ArbiterLosesTail
            | Self::Shuffle(_)
            | Self::Away(_)
            | Self::Standstill(_)
            | Self::StandstillOnBeat(_) => true,
            Self::Rush(..) | Self::WallJump(..) | Self::Drift(..) | Self::Drain(..) => false,
        }
    }
}

impl World {
    /// Whether a client may be sent there by what stands before the gateways.
    pub(crate) fn takes_clients(&self, gateway: usize) -> bool {
        self.gateways[gateway].core.is_some() && !self.gateways[gateway].draining
    }

    /// SIGTERM.
    pub(crate) fn drain(&mut self, gateway: usize, window: u64, back: u64) {
        let process = &mut self.gateways[gateway];
        if process.core.is_none() || process.frozen || process.draining {
            return;
        }
        process.draining = true;
        let within_ms = window.min(self.storm_ends().saturating_sub(self.now));
        self.gateway_input(gateway, gateway::Input::Drain { within_ms });
        let life = self.gateways[gateway].life;
        self.at(self.now + within_ms, Event::Heal(Heal::Leave(gateway, life, back)));
    }

    /// The window is over: who is still there is closed, the last words are said, and the process ends.
    pub(crate) fn leave(&mut self, gateway: usize, life: u64, back: u64) {
        if self.gateways[gateway].life != life || self.gateways[gateway].core.is_none() {
            return;
        }
        if self.gateways[gateway].frozen {
            self.at(self.now + AGAIN_MS, Event::Heal(Heal::Leave(gateway, life, back)));
            return;
        }
        if !self.owners_are_well() {
            self.oracle.disturb(gateway, self.now);
        }
        self.oracle.left(gateway, true);
        self.close_all(gateway);
        self.gateway_input(gateway, gateway::Input::Leave);
        self.gateways[gateway].core = None;
        self.oracle.gone(gateway);
        self.ghosts.retain(|(g, _), _| *g != gateway);
        let restart = (self.now + back).min(self.storm_ends());
        self.at(restart, Event::Heal(Heal::Restart(Node::Gateway(gateway))));
    }

    fn close_all(&mut self, gateway: usize) {
        let slots: Vec<(u32, usize)> =
            self.slots.iter().filter(|((g, _), _)| *g == gateway).map(|((_, s), i)| (*s, *i)).collect();
        for (slot, index) in slots {
            if !self.clients[index].mute {
                self.note_move(index);
            }
            self.gateway_input(gateway, gateway::Input::Closed(Slot(slot), Ending::Lost));
            self.slots.remove(&(gateway, slot));
            self.lose_link(index, Some(CloseCode::Shutdown.number()));
        }
    }

    /// A client leaves a gateway that sends everybody elsewhere: it must be seen until it is back.
    pub(crate) fn note_move(&mut self, index: usize) {
        let client = &self.clients[index];
        let stays = client
            .sdk
            .as_ref()
            .is_some_and(|sdk| !matches!(sdk.state(), herenow_client_core::ConnectionState::Stopped(_)));
        if let Link::Open { gateway, since, .. } = client.link
            && self.gateways[gateway].draining
            && stays
        {
            self.oracle.grace(client.user, gateway, since, self.now);
        }
    }

    /// Nothing is wrong now by which an owner may miss what a gateway says, and each partition has one that knows all
    /// gateways. The last words of one that leaves are said once: an owner that begins afterwards never hears that it
    /// was there, and one that has not had its sessions yet cannot ask for them any more.
    fn owners_are_well(&self) -> bool {
        let well = |c: &crate::process::Process<_>| c.core.is_some() && !c.frozen && c.cut_until <= self.now;
        let mended = self.now >= self.owners_mended_at;
        mended && self.coordinators.iter().all(well) && self.net.loss == 0.0 && self.oracle.is_settled()
    }
}
