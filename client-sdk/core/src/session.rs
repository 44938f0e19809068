//! What a client does with the frames of an open session, and how its requests get their turn.

use std::time::Duration;

use herenow_protocol::MonoTime;
use herenow_protocol::frame::{ServerFrame, Welcome};
use rand::RngExt;

use crate::ask::fail;
use crate::client::Phase;
use crate::incoming::{Incoming, parse};
use crate::link::Link;
use crate::requests::{Job, Open};
use crate::watches::Page;
use crate::{Client, ConnectionState, Failure, Output, after_reconnect_frame};

impl Client {
    pub(crate) fn heard(&mut self, now: MonoTime) {
        if let Phase::Up(link) = &mut self.phase {
            link.heard(now);
            self.map.heard(now);
        }
    }

    pub(crate) fn text(&mut self, text: &str, now: MonoTime, out: &mut Vec<Output>) {
        self.heard(now);
        match (parse(text), &self.phase) {
            (Some(Incoming::Frame(ServerFrame::Welcome(welcome))), Phase::Opening(_)) => {
                self.welcome(&welcome, now, out)
            }
            (Some(Incoming::Frame(frame)), Phase::Up(_)) => self.frame(frame, now, out),
            (Some(Incoming::Error { id: Some(id), failure }), Phase::Up(_)) => {
                self.refused(id, failure, now, out)
            }
            (Some(Incoming::Error { failure, .. }), _) => out.push(Output::Problem(failure)),
            (Some(Incoming::Frame(_)) | None, _) => {}
        }
    }

    fn welcome(&mut self, welcome: &Welcome, now: MonoTime, out: &mut Vec<Output>) {
        let mut link = Link::new(welcome, self.rng.random(), now);
        if self.activity != self.activity_told {
            link.activity_due = Some(now);
        }
        self.phase = Phase::Up(link);
        self.moving = false;
        self.token.failures = 0;
        self.map.connected(welcome.server_time, Duration::from_millis(welcome.fresh_for_ms), now);
        self.watches.connected(self.map.users());
        let session = welcome.session.as_str().into();
        self.set_state(ConnectionState::Connected { session, user: welcome.user_id.clone() }, out);
    }

    fn frame(&mut self, frame: ServerFrame, now: MonoTime, out: &mut Vec<Output>) {
        match frame {
            ServerFrame::Snapshot { id, users, complete } => {
                if let Some(Open { job: Job::Query(query), .. }) = self.requests.in_flight.get_mut(&id) {
                    query.got.extend(users.iter().cloned());
                }
                self.take(users, out);
                if complete {
                    self.answered(id, out);
                }
            }
            ServerFrame::Presence { users } => self.take(users, out),
            ServerFrame::Ack { id } => self.answered(id, out),
            ServerFrame::TokenExpiring { .. } => self.need_token(out),
            ServerFrame::Reconnect { after_ms, within_ms, reason } => {
                let (after, within) = (Duration::from_millis(after_ms), Duration::from_millis(within_ms));
                let wait = after_reconnect_frame(after, within, self.rng.random());
                if let Phase::Up(link) = &mut self.phase {
                    link.leave = Some((now.after(wait), reason));
                }
            }
            // A second welcome answers an `auth` of a gateway that sends one; the session goes on. Errors were told
            // apart when the text was read.
            ServerFrame::Welcome(_) | ServerFrame::Error { .. } => {}
        }
    }

    fn take(&mut self, users: Vec<herenow_protocol::Presence>, out: &mut Vec<Output>) {
        let mut changed = Vec::new();
        self.map.take(users, &mut changed);
        out.extend(changed.into_iter().map(Output::Changed));
    }

    fn answered(&mut self, id: u64, out: &mut Vec<Output>) {
        let Some(Open { job, deadline }) = self.requests.in_flight.remove(&id) else { return };
        match job {
            Job::Watch(_) => self.watches.refusals = 0,
            Job::Auth(_) => self.token.failures = 0,
            Job::Unwatch(_) => {}
            Job::Status(status) => out.push(Output::Done(status.ticket)),
            Job::Query(mut query) => {
                query.pages.pop_front();
                if query.pages.is_empty() {
                    out.push(Output::Answered(query.ticket, query.got));
                } else {
                    self.requests.waiting.push_front(Open { job: Job::Query(query), deadline });
                }
            }
        }
    }

    fn refused(&mut self, id: u64, failure: Failure, now: MonoTime, out: &mut Vec<Output>) {
        let Some(Open { job, .. }) = self.requests.in_flight.remove(&id) else {
            return out.push(Output::Problem(failure));
        };
        match &job {
            Job::Watch(users) if failure.is_passing() => {
                let wait =
                    failure.retry_after.unwrap_or_default().saturating_add(self.draw(self.watches.refusals));
                self.watches.refusals = self.watches.refusals.saturating_add(1);
                self.watches.hold_until = Some(now.after(wait));
                self.watch_again(users);
            }
            Job::Watch(users) => {
                let gone = users.iter().filter(|user| self.map.unwatch(user)).cloned().collect();
                out.push(Output::WatchRefused(gone, failure));
            }
            Job::Auth(_) => self.ask_token_later(failure, now, out),
            Job::Unwatch(_) => out.push(Output::Problem(failure)),
            Job::Query(_) | Job::Status(_) => fail(&job, &failure, out),
        }
    }

    fn watch_again(&mut self, users: &[herenow_protocol::UserId]) {
        for user in users {
            if self.map.is_watched(user) {
                self.watches.add(user.clone());
            }
        }
    }

    /// Fails what was not answered in time; what the client asked for by itself, it asks again.
    pub(crate) fn expire(&mut self, now: MonoTime, out: &mut Vec<Output>) {
        if self.requests.poll_timeout().is_none_or(|at| at > now) {
            return;
        }
        for job in self.requests.expired(now) {
            match &job {
                Job::Watch(users) => self.watch_again(users),
                Job::Auth(_) => self.ask_token_later(Failure::timeout(), now, out),
                Job::Unwatch(_) => {}
                Job::Query(_) | Job::Status(_) => fail(&job, &Failure::timeout(), out),
            }
        }
    }

    /// Sends what may be sent: the watch list first, then the application's requests in their order.
    pub(crate) fn pump(&mut self, now: MonoTime, out: &mut Vec<Output>) {
        while matches!(self.phase, Phase::Up(_)) && self.requests.in_flight.len() < self.config.max_in_flight
        {
            let Some(open) = self.next_job(now) else { return };
            let frame = self.requests.start(open);
            self.send(&frame, now, out);
        }
    }

    fn next_job(&mut self, now: MonoTime) -> Option<Open> {
        let job = match self.watches.next_page(now) {
            Some(Page::Watch(users)) => Job::Watch(users),
            Some(Page::Unwatch(users)) => Job::Unwatch(users),
            None => return self.requests.waiting.pop_front(),
        };
        Some(Open { job, deadline: now.after(self.config.request_timeout) })
    }
}
