//! What the application asks for.

use herenow_protocol::code::ErrorCode;
use herenow_protocol::{Activity, MonoTime, UserId};

use crate::client::Phase;
use crate::requests::{Job, Open, Query};
use crate::watches::pages;
use crate::{Client, Failure, Output, Ticket};

impl Client {
    pub(crate) fn watch(&mut self, users: Vec<UserId>, out: &mut Vec<Output>) {
        let new: Vec<UserId> = users.into_iter().filter(|user| !self.map.is_watched(user)).collect();
        if self.map.len() + new.len() > self.config.max_watches {
            let message = format!("a client watches at most {} users", self.config.max_watches);
            let failure = Failure::refused(ErrorCode::TooManyWatches, &message);
            return out.push(Output::WatchRefused(new, failure));
        }
        for user in new {
            if self.map.watch(user.clone()) && matches!(self.phase, Phase::Up(_)) {
                self.watches.add(user);
            }
        }
    }

    pub(crate) fn unwatch(&mut self, users: Vec<UserId>) {
        for user in users {
            if self.map.unwatch(&user) {
                self.watches.remove(user);
            }
        }
    }

    pub(crate) fn query(&mut self, ticket: Ticket, users: Vec<UserId>, now: MonoTime, out: &mut Vec<Output>) {
        let most = self.config.max_query_users;
        if users.is_empty() || users.len() > most {
            let code = if users.is_empty() { ErrorCode::EmptyBatch } else { ErrorCode::BatchTooLong };
            let message = format!("a query names 1 to {most} users, this one {}", users.len());
            return out.push(Output::Failed(ticket, Failure::refused(code, &message)));
        }
        let query = Query { ticket, pages: pages(users).into(), got: Vec::new() };
        self.request(ticket, Job::Query(query), now, out);
    }

    pub(crate) fn request(&mut self, ticket: Ticket, job: Job, now: MonoTime, out: &mut Vec<Output>) {
        if matches!(self.phase, Phase::Stopped | Phase::Leaving(_)) {
            return out.push(Output::Failed(ticket, Failure::closed()));
        }
        if self.requests.len() >= self.config.max_requests {
            let message = format!("{} requests are open", self.requests.len());
            return out.push(Output::Failed(ticket, Failure::refused(ErrorCode::TooManyRequests, &message)));
        }
        let deadline = now.after(self.config.request_timeout);
        self.requests.waiting.push_back(Open { job, deadline });
    }

    pub(crate) fn set_activity(&mut self, activity: Activity, now: MonoTime) {
        if self.activity == Some(activity) {
            return;
        }
        self.activity = Some(activity);
        if let Phase::Up(link) = &mut self.phase {
            let window = self.config.activity_window;
            link.activity_due = Some(link.activity_sent.map_or(now, |sent| sent.after(window).max(now)));
        }
    }
}

/// Tells the application, if it waits for this.
pub(crate) fn fail(job: &Job, failure: &Failure, out: &mut Vec<Output>) {
    out.extend(job.ticket().map(|ticket| Output::Failed(ticket, failure.clone())));
}
