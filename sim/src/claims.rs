//! What people and backends claim, in worlds whose only coordinator never dies: until a store keeps them, claims are lost
//! with their owner.

use herenow_client_core as sdk;
use herenow_gateway_core as gateway;
use herenow_gateway_core::Ticket;
use herenow_protocol::WallTime;
use herenow_protocol::frame::ManualStatus;
use herenow_protocol::message::{ApiStatus, ClaimCommand};
use rand::RngExt as _;

use crate::client::Link;
use crate::ledger::{Claim, Says, Source, UNSETTLED_MS};
use crate::oracle::truth;
use crate::process::user_id;
use crate::world::{Event, WALL_MS, World};

/// Of so many users, one claims.
const CLAIMS_ONE_OF: usize = 3;
/// How long a device must have been connected to claim something at the end.
const STEADY_MS: u64 = 3_000;

impl World {
    fn claims(&self, user: usize) -> bool {
        self.profile.claims && user.is_multiple_of(CLAIMS_ONE_OF)
    }

    /// When claims are made in the quiet: nothing begun in the storm can come to an owner any more.
    fn last_claims_at(&self) -> u64 {
        self.storm_ends() + UNSETTLED_MS + 1_000
    }

    /// A person says what to show, often for a while only.
    pub(crate) fn claim_by_hand(&mut self, index: usize) {
        if !self.claims(self.clients[index].user) {
            return;
        }
        let lasts = self.rng.random_bool(0.4).then(|| self.rng.random_range(2_000..20_000));
        self.claim_on(index, lasts);
    }

    fn claim_on(&mut self, index: usize, lasts: Option<u64>) {
        let (says, status) = [
            (Says::Nothing, ManualStatus::Auto),
            (Says::Online, ManualStatus::Online),
            (Says::Idle, ManualStatus::Idle),
            (Says::Dnd, ManualStatus::Dnd),
            (Says::Offline, ManualStatus::Invisible),
        ][self.rng.random_range(0..5)];
        let text = self.draw_text();
        let ends = lasts.map(|lasts| self.now + lasts);
        let claim = Claim { says, text: text.clone() };
        let (user, now) = (self.clients[index].user, self.now);
        let ticket = sdk::Ticket(self.oracle.ledger.begin(user, Source::Device(index), claim, ends, now));
        self.note(|| format!("client {index} claims {status:?} {text:?} until {ends:?}"));
        let expires_at = ends.map(|end| WallTime::from_millis(WALL_MS + end));
        self.sdk(index, sdk::Input::SetStatus { ticket, status, text, emoji: None, expires_at });
    }

    fn draw_text(&mut self) -> Option<String> {
        self.rng.random_bool(0.5).then(|| format!("text {}", self.rng.random_range(0..1_000)))
    }

    /// A backend says what to show of somebody, always for a while only in the storm.
    pub(crate) fn backend_claims(&mut self) {
        if self.now < self.storm_ends() {
            let user = self.rng.random_range(0..self.profile.users);
            if self.claims(user) {
                let lasts = self.rng.random_range(1_000..15_000);
                self.claim_over(user, Some(lasts));
            }
            let pause = self.rng.random_range(100..2_000);
            self.at(self.now + pause, Event::BackendClaims);
        } else if self.now >= self.last_claims_at() {
            self.last_claims();
        } else {
            self.at(self.last_claims_at(), Event::BackendClaims);
        }
    }

    fn claim_over(&mut self, user: usize, lasts: Option<u64>) {
        let up: Vec<usize> = (0..self.gateways.len()).filter(|i| self.takes_clients(*i)).collect();
        if up.is_empty() {
            return;
        }
        let gateway = up[self.rng.random_range(0..up.len())];
        let (says, status) = [
            (Says::Dnd, ApiStatus::Dnd),
            (Says::Idle, ApiStatus::Idle),
            (Says::Offline, ApiStatus::Offline),
            (Says::Online, ApiStatus::Online),
        ][self.rng.random_range(0..if lasts.is_some() { 4 } else { 3 })];
        let text = self.draw_text();
        let ends = lasts.map(|lasts| self.now + lasts);
        let claim = Claim { says, text: text.clone() };
        let ticket = Ticket(self.oracle.ledger.begin(user, Source::Backend, claim, ends, self.now));
        self.note(|| format!("a backend claims {status:?} {text:?} of user {user} until {ends:?}"));
        let text = text.map(String::into_boxed_str);
        let command = ClaimCommand::Api { status, text, ttl_ms: lasts, session: None };
        let input = Box::new(gateway::Input::Claim { ticket, user: user_id(user), command });
        let life = self.gateways[gateway].life;
        self.at(self.now + 1, Event::FromClient(gateway, life, input));
    }

    /// Everything is calm: whatever is claimed now is done, and shown at the end.
    fn last_claims(&mut self) {
        for user in 0..self.profile.users {
            if !self.claims(user) {
                continue;
            }
            let device = self.clients.iter().position(|client| client.user == user && self.is_there(client));
            match device {
                Some(index) if self.rng.random_bool(0.5) => self.claim_on(index, None),
                Some(_) if truth(&self.clients, user) != herenow_protocol::Status::Offline => {
                    self.claim_over(user, None);
                }
                Some(_) | None => {}
            }
        }
    }

    fn is_there(&self, client: &crate::client::Client) -> bool {
        match client.link {
            Link::Open { since, .. } => !client.mute && since + STEADY_MS < self.now,
            Link::Away => false,
        }
    }

    /// At the end, what was claimed in the quiet is done.
    pub(crate) fn judge_claims(&mut self) {
        let undone = self.oracle.ledger.not_done_since(self.last_claims_at());
        self.oracle.undone(undone, self.now);
    }
}
