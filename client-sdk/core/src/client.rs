//! The client itself: its phases, and what moves it from one to the next.

use std::time::Duration;

use herenow_protocol::code::Duty;
use herenow_protocol::frame::{ClientFrame, encode};
use herenow_protocol::{Activity, MonoTime, Presence, UserId};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::ask::fail;
use crate::link::{Due, Link};
use crate::requests::{Job, Requests, StatusJob};
use crate::token::Token;
use crate::watches::Watches;
use crate::{
    Closure, Config, ConnectionState, Failure, Input, Output, PresenceMap, after_refusal, attempt_after,
    backoff,
};

/// Where a client stands.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Nothing is open; an attempt begins at this moment.
    Waiting(MonoTime),
    /// An attempt waits for the application's token.
    AwaitingToken,
    /// An attempt waits for its `welcome`, at most until this moment.
    Opening(MonoTime),
    /// A session is open.
    Up(Link),
    /// `bye` was sent; its answer is waited for until this moment.
    Leaving(MonoTime),
    /// Over for good.
    Stopped,
}

/// One client; see the crate's page.
#[derive(Debug)]
pub struct Client {
    pub(crate) config: Config,
    pub(crate) rng: ChaCha8Rng,
    pub(crate) phase: Phase,
    pub(crate) state: ConnectionState,
    pub(crate) token: Token,
    pub(crate) map: PresenceMap,
    pub(crate) watches: Watches,
    pub(crate) requests: Requests,
    pub(crate) activity: Option<Activity>,
    /// What the handshake said.
    pub(crate) activity_told: Option<Activity>,
    attempt: u32,
    /// On the way to another gateway, as this one asked: no news for the application unless it fails.
    pub(crate) moving: bool,
}

impl Client {
    /// A client that connects as soon as [`Self::handle_timeout`] is called. `seed` feeds every random choice.
    #[must_use]
    pub fn new(config: Config, seed: u64, now: MonoTime) -> Self {
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            phase: Phase::Waiting(now),
            state: ConnectionState::Connecting,
            token: Token::default(),
            map: PresenceMap::new(),
            watches: Watches::default(),
            requests: Requests::default(),
            activity: config.activity,
            activity_told: None,
            attempt: 0,
            moving: false,
            config,
        }
    }

    /// What is known of a user. `None`: it is not watched, or nothing was heard of it yet.
    #[must_use]
    pub fn presence(&self, user: &UserId) -> Option<&Presence> {
        self.map.get(user)
    }

    /// The watched users and what is known of them.
    #[must_use]
    pub fn map(&self) -> &PresenceMap {
        &self.map
    }

    /// How the client stands with its gateway.
    #[must_use]
    pub fn state(&self) -> &ConnectionState {
        &self.state
    }

    /// Takes one input; appends what is to be done.
    pub fn handle(&mut self, input: Input, now: MonoTime, out: &mut Vec<Output>) {
        match input {
            Input::Text(text) => self.text(&text, now, out),
            Input::Heard => self.heard(now),
            Input::Closed(closure) => self.closed(closure, now, out),
            Input::Token(token) => self.token_came(token, now, out),
            Input::TokenFailed(failure) => self.token_failed(failure, now, out),
            Input::Watch(users) => self.watch(users, out),
            Input::Unwatch(users) => self.unwatch(users),
            Input::Query { ticket, users } => self.query(ticket, users, now, out),
            Input::SetStatus { ticket, status, text, emoji, expires_at } => {
                let job = StatusJob { ticket, status, text, emoji, expires_at };
                self.request(ticket, Job::Status(Box::new(job)), now, out);
            }
            Input::SetActivity(activity) => self.set_activity(activity, now),
            Input::Bye => self.bye(now, out),
        }
        self.handle_timeout(now, out);
    }

    /// When [`Self::handle_timeout`] wants to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        let phase = match &self.phase {
            Phase::Waiting(at) | Phase::Opening(at) | Phase::Leaving(at) => Some(*at),
            Phase::Up(link) => [Some(link.poll_timeout()), self.watches.poll_timeout(), self.token.ask_at]
                .into_iter()
                .flatten()
                .min(),
            Phase::AwaitingToken | Phase::Stopped => None,
        };
        [phase, self.map.poll_timeout(), self.requests.poll_timeout()].into_iter().flatten().min()
    }

    /// Does what is due. Bytes that have arrived must be handed in first: this is what declares a connection dead.
    pub fn handle_timeout(&mut self, now: MonoTime, out: &mut Vec<Output>) {
        match &self.phase {
            Phase::Waiting(at) if *at <= now => self.attempt(now, out),
            Phase::Opening(at) if *at <= now => {
                out.push(Output::Close);
                self.lost(Failure::connect_timeout(), now, out);
            }
            Phase::Leaving(at) if *at <= now => {
                out.push(Output::Close);
                self.stop(None, out);
            }
            Phase::Up(_) => self.up_timeout(now, out),
            Phase::Waiting(_)
            | Phase::Opening(_)
            | Phase::Leaving(_)
            | Phase::AwaitingToken
            | Phase::Stopped => {}
        }
        self.expire(now, out);
        let mut changed = Vec::new();
        self.map.handle_timeout(now, &mut changed);
        out.extend(changed.into_iter().map(Output::Changed));
        self.pump(now, out);
    }

    fn up_timeout(&mut self, now: MonoTime, out: &mut Vec<Output>) {
        let Phase::Up(link) = &mut self.phase else { return };
        if let Some((_, reason)) = link.leave.take_if(|leave| leave.0 <= now) {
            out.push(Output::Close);
            self.cut();
            self.moving = true;
            return self.wait(Duration::ZERO, Failure::going_away(&reason), now, out);
        }
        match link.due(now) {
            Some(Due::Dead) => {
                out.push(Output::Close);
                return self.lost(Failure::heartbeat_timeout(), now, out);
            }
            Some(Due::Beat { ask }) => self.beat(ask, now, out),
            None => {}
        }
        if self.token.ask_at.is_some_and(|at| at <= now) {
            self.token.ask_at = None;
            self.need_token(out);
        }
    }

    fn beat(&mut self, ask: bool, now: MonoTime, out: &mut Vec<Output>) {
        let id = ask.then(|| self.requests.next_id());
        let Phase::Up(link) = &mut self.phase else { return };
        if ask {
            link.asked();
        }
        if link.activity_due.take().is_some() {
            link.activity_sent = Some(now);
        }
        self.send(&ClientFrame::Heartbeat { activity: self.activity, id }, now, out);
    }

    /// Begins an attempt.
    fn attempt(&mut self, now: MonoTime, out: &mut Vec<Output>) {
        self.set_state(ConnectionState::Connecting, out);
        if self.token.value.is_some() {
            return self.open(now, out);
        }
        self.phase = Phase::AwaitingToken;
        self.need_token(out);
    }

    pub(crate) fn open(&mut self, now: MonoTime, out: &mut Vec<Output>) {
        let Some(token) = self.token.value.clone() else { return };
        self.activity_told = self.activity;
        self.phase = Phase::Opening(now.after(self.config.connect_timeout));
        out.push(Output::Connect { token, activity: self.activity });
    }

    fn closed(&mut self, closure: Closure, now: MonoTime, out: &mut Vec<Output>) {
        match &self.phase {
            Phase::Leaving(_) => return self.stop(None, out),
            Phase::Waiting(_) | Phase::AwaitingToken | Phase::Stopped => return,
            Phase::Opening(_) | Phase::Up(_) => {}
        }
        let duty = closure.duty();
        let failure = closure.failure();
        match duty {
            Duty::Done => self.stop(None, out),
            Duty::Stay => self.stop(Some(failure), out),
            Duty::RenewToken if self.token.fresh && matches!(self.phase, Phase::Opening(_)) => {
                self.stop(Some(failure), out);
            }
            Duty::RenewToken => {
                self.token.value = None;
                self.lost(failure, now, out);
            }
            Duty::Reconnect => self.lost(failure, now, out),
        }
    }

    /// Comes back after a wait (SDK-B1), when a refusal said (SDK-B3), or when a `reconnect` frame said.
    pub(crate) fn lost(&mut self, failure: Failure, now: MonoTime, out: &mut Vec<Output>) {
        let mut told = None;
        self.moving = false;
        if let Phase::Up(link) = &mut self.phase {
            self.attempt = attempt_after(self.config.backoff_cap, self.attempt, now.since(link.up_since));
            told = link.leave.take().map(|(at, _)| at.since(now));
        }
        self.cut();
        let wait = told.unwrap_or_else(|| {
            let attempt = self.attempt;
            self.attempt = self.attempt.saturating_add(1);
            match failure.retry_after {
                Some(told) => after_refusal(told, self.config.backoff_base, self.rng.random()),
                None => self.draw(attempt),
            }
        });
        self.wait(wait, failure, now, out);
    }

    fn wait(&mut self, wait: Duration, cause: Failure, now: MonoTime, out: &mut Vec<Output>) {
        self.phase = Phase::Waiting(now.after(wait));
        self.set_state(ConnectionState::Waiting { retry_in: wait, cause }, out);
        if wait.is_zero() {
            self.attempt(now, out);
        }
    }

    /// Forgets what was bound to the connection.
    fn cut(&mut self) {
        self.map.disconnected();
        self.watches.cut();
        self.requests.cut();
        self.token.fresh = false;
        self.token.ask_at = None;
    }

    pub(crate) fn stop(&mut self, cause: Option<Failure>, out: &mut Vec<Output>) {
        self.cut();
        self.moving = false;
        self.phase = Phase::Stopped;
        let answer = cause.clone().unwrap_or_else(Failure::closed);
        for job in self.requests.drain() {
            fail(&job, &answer, out);
        }
        self.set_state(ConnectionState::Stopped(cause), out);
    }

    fn bye(&mut self, now: MonoTime, out: &mut Vec<Output>) {
        match &self.phase {
            Phase::Up(_) => {
                self.send(&ClientFrame::Bye {}, now, out);
                self.cut();
                self.phase = Phase::Leaving(now.after(self.config.bye_timeout));
            }
            Phase::Opening(_) => {
                out.push(Output::Close);
                self.stop(None, out);
            }
            Phase::Waiting(_) | Phase::AwaitingToken => self.stop(None, out),
            Phase::Leaving(_) | Phase::Stopped => {}
        }
    }

    pub(crate) fn send(&mut self, frame: &ClientFrame, now: MonoTime, out: &mut Vec<Output>) {
        if let Phase::Up(link) = &mut self.phase {
            link.sent(now);
            out.push(Output::Send(encode(frame)));
        }
    }

    pub(crate) fn set_state(&mut self, state: ConnectionState, out: &mut Vec<Output>) {
        let on_the_way = match &state {
            ConnectionState::Connecting | ConnectionState::Waiting { .. } => self.moving,
            ConnectionState::Connected { .. } | ConnectionState::Stopped(_) => false,
        };
        if self.state != state && !on_the_way {
            self.state = state.clone();
            out.push(Output::State(state));
        }
    }

    pub(crate) fn draw(&mut self, attempt: u32) -> Duration {
        backoff(self.config.backoff_base, self.config.backoff_cap, attempt, self.rng.random())
    }
}
