//! What people do with their devices, and how frames go between a device and its gateway.

use herenow_client_core as sdk;
use herenow_gateway_core as gateway;
use herenow_gateway_core::{Grants, Opening, Slot, Viewer};
use herenow_protocol::code::CloseCode;
use herenow_protocol::frame::{ClientFrame, ServerFrame};
use herenow_protocol::message::Ending;
use herenow_protocol::{Activity, DeviceKind, Presence, UserId, WallTime};
use rand::RngExt as _;

use crate::client::{Link, Step, draw_activity, draw_leave, draw_watches};
use crate::process::{device_id, user_id};
use crate::world::{Event, World};

/// When, before the storm ends, those go who are gone in the quiet.
const LEAVING_MS: u64 = 6_000;
/// How long a session whose end its gateway has not seen may be taken for alive, or in grace.
const VANISHED_MS: u64 = 45_000;
/// The same of one that its device has closed without a word, or to go elsewhere.
const MOVED_MS: u64 = 17_000;
/// The same of one that its gateway has seen to be lost.
pub(crate) const GRACE_MS: u64 = 11_000;
/// How long a frame is under way between a device and its gateway.
const WIRE_MS: u64 = 1;

impl World {
    pub(crate) fn step(&mut self, index: usize) {
        self.oracle.keeps_up(index, &self.clients, self.now);
        let mut step = self.clients[index].draw(&mut self.rng);
        let pause = self.rng.random_range(300..6_000);
        let stormy = self.now < self.storm_ends();
        let leaving = self.leaves(index) && self.now + LEAVING_MS >= self.storm_ends();
        if leaving && stormy && step != Step::Start {
            step = draw_leave(&mut self.rng);
        }
        let stays_away = leaving || self.now < self.clients[index].away_until;
        let acts = if step == Step::Start { !stays_away } else { stormy };
        let next = if acts { self.act(index, step).unwrap_or(pause) } else { pause };
        self.at(self.now + next, Event::Step(index));
    }

    /// Some users are gone in the quiet, so that somebody may be shown who should not be.
    fn leaves(&self, index: usize) -> bool {
        let user = self.clients[index].user as u64;
        self.profile.faults > 0 && user.wrapping_add(self.seed).is_multiple_of(4)
    }

    /// Takes its leave, and is not back before `until`.
    pub(crate) fn depart(&mut self, index: usize, until: u64) {
        self.clients[index].away_until = until;
        if self.clients[index].sdk.is_some() {
            self.act(index, Step::Bye(0));
        }
    }

    pub(crate) fn nudge(&mut self, index: usize) {
        let step = match self.rng.random_range(0..10) {
            0..=6 => Step::Activity(draw_activity(&mut self.rng)),
            _ => Step::Reload(0),
        };
        if self.clients[index].sdk.is_some() && self.now < self.storm_ends() {
            self.act(index, step);
        }
    }

    /// Carries out a step; says when the next one follows, if that is part of it.
    fn act(&mut self, index: usize, step: Step) -> Option<u64> {
        self.note(|| format!("client {index}: {step:?}"));
        match step {
            Step::Start => self.start_client(index),
            Step::Activity(activity) => {
                self.clients[index].activity = activity;
                self.clients[index].activity_since = self.now;
                self.stirred = true;
                self.sdk(index, sdk::Input::SetActivity(activity));
            }
            Step::Reload(away) => {
                self.break_off(index);
                self.stop_client(index);
                return Some(away);
            }
            Step::Lose(away) => {
                self.clients[index].no_network_until = self.now + away;
                self.break_off(index);
                self.sdk(index, sdk::Input::Closed(sdk::Closure::Lost(sdk::Failure::lost())));
            }
            Step::Bye(away) => {
                let user = self.clients[index].user;
                self.oracle.no_grace(user);
                self.clients[index].left_on = Some(self.clients[index].attempt);
                self.sdk(index, sdk::Input::Bye);
                return Some(away.max(2_500));
            }
            Step::Vanish(away) => {
                let user = self.clients[index].user;
                self.oracle.no_grace(user);
                self.oracle.leaves.haunts(user, self.now + VANISHED_MS);
                self.stop_client(index);
                self.clients[index].mute = true;
                self.stirred = true;
                return Some(away);
            }
            Step::Rewatch => self.rewatch(index),
            Step::Claim => self.claim_by_hand(index),
            Step::Rest => {}
        }
        None
    }

    /// A program is started; what another one left behind on the device is not its own.
    fn start_client(&mut self, index: usize) {
        self.abandon(index);
        let config = sdk::Config {
            activity: Some(Activity::Active),
            backoff_cap: std::time::Duration::from_secs(5),
            ..sdk::Config::default()
        };
        let seed = self.rng.random();
        let client = &mut self.clients[index];
        self.stirred = true;
        client.instance += 1;
        client.alarm = 0;
        client.activity = Activity::Active;
        client.activity_since = self.now;
        client.shown.clear();
        client.clock.begin(self.now, &mut self.rng);
        client.sdk = Some(sdk::Client::new(config, seed, client.clock.now(self.now).mono));
        let users = client.watches.iter().map(|user| user_id(*user)).collect();
        self.sdk(index, sdk::Input::Watch(users));
    }

    fn stop_client(&mut self, index: usize) {
        let client = &mut self.clients[index];
        client.sdk = None;
        client.attempt += 1;
    }

    fn rewatch(&mut self, index: usize) {
        let watches = draw_watches(self.profile, &mut self.rng);
        let client = &mut self.clients[index];
        let before = std::mem::replace(&mut client.watches, watches.clone());
        client.shown.retain(|user, _| watches.contains(user));
        let ids = |users: &[usize]| -> Vec<UserId> { users.iter().map(|user| user_id(*user)).collect() };
        let gone: Vec<usize> = before.into_iter().filter(|user| !watches.contains(user)).collect();
        for user in &gone {
            client.sent.remove(&user_id(*user));
        }
        self.sdk(index, sdk::Input::Unwatch(ids(&gone)));
        self.sdk(index, sdk::Input::Watch(ids(&watches)));
    }

    // ---- the SDK

    pub(crate) fn sdk(&mut self, index: usize, input: sdk::Input) {
        let now = self.clients[index].clock.now(self.now).mono;
        let Some(client) = self.clients[index].sdk.as_mut() else { return };
        let mut out = Vec::new();
        client.handle(input, now, &mut out);
        self.sdk_outputs(index, out);
    }

    pub(crate) fn alarm(&mut self, index: usize, instance: u64) {
        let client = &mut self.clients[index];
        let now = client.clock.now(self.now).mono;
        if client.instance != instance || client.alarm > self.now {
            return;
        }
        let Some(client) = client.sdk.as_mut() else { return };
        let mut out = Vec::new();
        client.handle_timeout(now, &mut out);
        self.sdk_outputs(index, out);
    }

    fn sdk_outputs(&mut self, index: usize, out: Vec<sdk::Output>) {
        use sdk::Output;
        for output in out {
            match output {
                Output::NeedToken => self.sdk(index, sdk::Input::Token("a token".to_owned())),
                Output::Connect { .. } => {
                    self.clients[index].attempt += 1;
                    let attempt = self.clients[index].attempt;
                    self.at(self.now + WIRE_MS, Event::Dial(index, attempt));
                }
                Output::Send(text) => self.send_frame(index, &text),
                Output::Close => {
                    self.clients[index].attempt += 1;
                    self.note_move(index);
                    // Of a leave that was not told first this is a loss, or a move.
                    let (user, now) = (self.clients[index].user, self.now);
                    self.oracle.leaves.haunts_unless_left(user, now, now + MOVED_MS);
                    self.part(index);
                }
                Output::Changed(presence) => self.show(index, presence),
                Output::State(sdk::ConnectionState::Stopped(_)) => self.clients[index].sdk = None,
                Output::Done(ticket) if self.profile.keeps => {
                    self.store.acknowledge(self.clients[index].user, ticket.0);
                }
                Output::Done(ticket) => self.oracle.ledger.told(ticket.0, true, self.now),
                Output::Failed(ticket, _) => self.oracle.ledger.told(ticket.0, false, self.now),
                Output::State(_) | Output::Answered(..) => {}
                Output::WatchRefused(..) | Output::Problem(_) => {}
            }
        }
        self.set_alarm(index);
    }

    fn set_alarm(&mut self, index: usize) {
        let now = self.now;
        let client = &mut self.clients[index];
        let Some(due) = client.sdk.as_ref().and_then(sdk::Client::poll_timeout) else { return };
        let at = client.clock.when(due).max(now + 1);
        if client.alarm > now && client.alarm <= at {
            return;
        }
        client.alarm = at;
        let instance = client.instance;
        self.at(at, Event::Alarm(index, instance));
    }

    fn show(&mut self, index: usize, presence: Presence) {
        let Some(user) = number_of(&presence.user_id) else { return };
        if self.clients[index].watches.contains(&user) {
            self.note(|| format!("client {index} shows {presence:?}"));
            self.oracle.shown(index, &self.clients, user, &presence, self.now);
            self.clients[index].shown.insert(user, presence);
        }
    }

    // ---- the wire

    pub(crate) fn dial(&mut self, index: usize, attempt: u64) {
        if self.clients[index].attempt != attempt {
            return;
        }
        let up: Vec<usize> = (0..self.gateways.len()).filter(|i| self.takes_clients(*i)).collect();
        if self.now < self.clients[index].no_network_until || up.is_empty() {
            self.at(self.now + 50, Event::HungUp(index, attempt, None));
            return;
        }
        let gateway = up[self.rng.random_range(0..up.len())];
        self.abandon(index);
        let slot = (0..).find(|slot| self.is_free(gateway, *slot)).unwrap_or(0);
        self.slots.insert((gateway, slot), index);
        let life = self.gateways[gateway].life;
        let client = &mut self.clients[index];
        client.link = Link::Open { gateway, life, slot, since: self.now };
        client.mute = false;
        client.sent.clear();
        self.stirred = true;
        let opening = Opening {
            viewer: Viewer { user: user_id(client.user), grants: Grants::Everybody },
            device: device_id(&client.device),
            kind: DeviceKind::Web,
            activity: Some(client.activity),
            token_expires: WallTime::from_millis(u64::MAX / 2),
        };
        self.hand_in(index, gateway::Input::Open(Slot(slot), Box::new(opening)));
    }

    fn is_free(&self, gateway: usize, slot: u32) -> bool {
        let place = (gateway, slot);
        !self.slots.contains_key(&place)
            && !self.ghosts.contains_key(&place)
            && !self.closing.contains(&place)
    }

    /// A gateway is to hear that a connection is over. Until it has, it writes to that slot what was for who had it.
    fn close_slot(&mut self, gateway: usize, slot: u32) {
        self.slots.remove(&(gateway, slot));
        if !self.closing.insert((gateway, slot)) {
            return;
        }
        let life = self.gateways[gateway].life;
        let input = Box::new(gateway::Input::Closed(Slot(slot), Ending::Lost));
        self.at(self.now + WIRE_MS, Event::FromClient(gateway, life, input));
    }

    fn send_frame(&mut self, index: usize, text: &str) {
        let Link::Open { slot, .. } = self.clients[index].link else { return };
        match ClientFrame::parse(text) {
            Ok(frame) => {
                if matches!(frame, ClientFrame::Bye {}) {
                    self.oracle.leaves.in_order(self.clients[index].user, self.now);
                }
                self.hand_in(index, gateway::Input::Frame(Slot(slot), frame));
            }
            Err(error) => unreachable!("the SDK wrote what no gateway reads: {error}: {text}"),
        }
    }

    fn hand_in(&mut self, index: usize, input: gateway::Input) {
        if let Link::Open { gateway, life, .. } = self.clients[index].link {
            self.at(self.now + WIRE_MS, Event::FromClient(gateway, life, Box::new(input)));
        }
    }

    /// The frames that a gateway has for a client.
    pub(crate) fn pull_frames(&mut self, index: usize, slot: Slot) {
        let mut frame = String::new();
        loop {
            let process = &mut self.gateways[index];
            let now = process.now(self.now);
            let Some(core) = process.core.as_mut() else { return };
            if !core.poll_transmit(slot, now, &mut frame) {
                return;
            }
            if let Some(client) = self.slots.get(&(index, slot.0)).copied() {
                let attempt = self.clients[client].attempt;
                self.at(self.now + WIRE_MS, Event::ToClient(client, attempt, frame.clone()));
            }
        }
    }

    pub(crate) fn frame_arrives(&mut self, index: usize, attempt: u64, text: String) {
        if self.clients[index].attempt != attempt || self.clients[index].mute {
            return;
        }
        match ServerFrame::parse(&text) {
            Ok(ServerFrame::Snapshot { users, .. } | ServerFrame::Presence { users }) => {
                for presence in users {
                    self.check_order(index, &presence);
                }
            }
            Ok(_) => {}
            Err(error) => unreachable!("a gateway wrote what no client reads: {error}: {text}"),
        }
        self.sdk(index, sdk::Input::Text(text));
    }

    fn check_order(&mut self, index: usize, presence: &Presence) {
        self.note(|| format!("client {index} is sent {presence:?}"));
        if let (Link::Open { gateway, .. }, Some(user)) =
            (self.clients[index].link, number_of(&presence.user_id))
        {
            self.oracle.served(index, gateway, user, presence, self.now);
            let people = (self.clients.as_slice(), &self.ghosts);
            self.oracle.told_of_leaver(Some(index), gateway, user, presence, people, self.now);
        }
        let client = &mut self.clients[index];
        let last = client.sent.get(&presence.user_id).copied();
        if last.is_none_or(|last| presence.version > last) {
            client.sent.insert(presence.user_id.clone(), presence.version);
        }
        self.oracle.received(index, last, presence, self.now);
    }

    pub(crate) fn hung_up(&mut self, index: usize, attempt: u64, code: Option<u16>) {
        if self.clients[index].attempt == attempt {
            let lost = || sdk::Closure::Lost(sdk::Failure::lost());
            self.sdk(index, sdk::Input::Closed(code.map_or_else(lost, sdk::Closure::Code)));
        }
    }

    /// A connection breaks, and the gateway hears of it at once: the user is given grace.
    fn break_off(&mut self, index: usize) {
        if let Link::Open { gateway, since, .. } = self.clients[index].link {
            let client = &self.clients[index];
            if client.left_on != Some(client.attempt) {
                self.oracle.grace(client.user, gateway, since, self.now);
                self.oracle.leaves.haunts(client.user, self.now + GRACE_MS);
            }
            self.part(index);
        }
    }

    /// The client's side closes the connection.
    fn part(&mut self, index: usize) {
        if let Link::Open { gateway, slot, .. } = self.clients[index].link {
            self.close_slot(gateway, slot);
            self.clients[index].link = Link::Away;
            self.stirred = true;
        }
    }

    /// A new program runs on the device: a connection that an earlier one left open dies with it, or stays open in
    /// the eyes of a gateway that hears nothing.
    fn abandon(&mut self, index: usize) {
        if self.clients[index].mute {
            self.clients[index].mute = false;
            if let Link::Open { gateway, slot, .. } = self.clients[index].link {
                self.slots.remove(&(gateway, slot));
                self.ghosts.insert((gateway, slot), (self.clients[index].user, gateway));
            }
            self.clients[index].link = Link::Away;
            self.stirred = true;
        }
    }

    /// The gateway closes the connection.
    pub(crate) fn hang_up(&mut self, gateway: usize, slot: Slot, code: u16) {
        self.ghosts.remove(&(gateway, slot.0));
        let client = self.slots.get(&(gateway, slot.0)).copied();
        self.close_slot(gateway, slot.0);
        if let Some(index) = client {
            self.lose_link(index, Some(code));
        }
    }

    /// The gateway is gone, and the connection with it.
    pub(crate) fn cut_off(&mut self, gateway: usize, slot: u32) {
        if let Some(index) = self.slots.remove(&(gateway, slot)) {
            self.lose_link(index, None);
        }
    }

    pub(crate) fn lose_link(&mut self, index: usize, code: Option<u16>) {
        let client = &mut self.clients[index];
        if code != Some(CloseCode::Normal.number()) {
            self.oracle.leaves.haunts(client.user, self.now + VANISHED_MS);
        }
        client.link = Link::Away;
        client.mute = false;
        self.stirred = true;
        let attempt = client.attempt;
        self.at(self.now + WIRE_MS, Event::HungUp(index, attempt, code));
    }
}

pub(crate) fn number_of(user: &UserId) -> Option<usize> {
    user.as_str().strip_prefix('u')?.parse().ok()
}
