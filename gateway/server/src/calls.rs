//! What HTTP handlers and backends ask of a shard, and how they are answered.

use bytes::Bytes;
use herenow_bus::Message;
use herenow_gateway_core::{Input, Viewer};
use herenow_protocol::api::{Explanation, Problem, StatusSet, Statuses};
use herenow_protocol::code::ErrorCode;
use herenow_protocol::message::{ClaimCommand, Claimed};
use herenow_protocol::{Presence, UserId};
use serde::Serialize;
use std::rc::Rc;
use tokio::sync::{mpsc, oneshot};

use crate::shard::Shard;

/// A question to the core.
#[derive(Debug)]
pub(crate) enum Question {
    /// How these users are.
    Users { viewer: Viewer, users: Vec<UserId> },
    /// A claim to set.
    Claim { user: UserId, command: ClaimCommand },
    /// Why a user is shown as it is.
    Explain { user: UserId },
}

/// The core's answer.
#[derive(Debug)]
pub(crate) enum Answer {
    Users(Vec<Presence>),
    Claimed(Result<Box<Claimed>, ErrorCode>),
    Explained(Result<Box<Explanation>, ErrorCode>),
}

/// Who waits for an answer.
#[derive(Debug)]
pub(crate) enum Asker {
    /// A handler of an HTTP request.
    Http(oneshot::Sender<Answer>),
    /// A backend, under this subject.
    Bus(String),
}

/// A question of a handler, which may run on any thread.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) question: Question,
    pub(crate) reply: oneshot::Sender<Answer>,
}

/// Puts the questions of handlers to the core.
pub(crate) async fn run(shard: Rc<Shard>, mut calls: mpsc::Receiver<Call>) {
    while let Some(call) = calls.recv().await {
        shard.ask(call.question, Asker::Http(call.reply));
    }
}

impl Shard {
    pub(crate) fn ask(self: &Rc<Self>, question: Question, asker: Asker) {
        let ticket = self.ticket(asker);
        let input = match question {
            Question::Users { viewer, users } => Input::Query { ticket, viewer, users },
            Question::Claim { user, command } => Input::Claim { ticket, user, command },
            Question::Explain { user } => Input::Explain { ticket, user },
        };
        self.feed(input, self.now());
    }

    /// Answers a backend with a body.
    pub(crate) fn reply<T: Serialize>(&self, subject: &str, body: &T) {
        match serde_json::to_vec(body) {
            Ok(bytes) => self.publish(subject, Bytes::from(bytes)),
            Err(why) => tracing::error!(%why, "answer cannot be written"),
        }
    }

    /// Refuses a backend's request.
    pub(crate) fn refuse(&self, subject: &str, code: ErrorCode, detail: impl Into<String>) {
        self.metrics().request_error(code);
        self.reply(subject, &Problem::new(code, detail));
    }
}

impl Asker {
    pub(crate) fn answer(self, shard: &Shard, answer: Answer) {
        match (self, answer) {
            // A handler that gave up waiting is no error.
            (Self::Http(reply), answer) => drop(reply.send(answer)),
            (Self::Bus(subject), Answer::Users(statuses)) => shard.reply(&subject, &Statuses { statuses }),
            (Self::Bus(subject), Answer::Claimed(Ok(claimed))) => {
                shard.reply(&subject, &status_set(&claimed))
            }
            (Self::Bus(subject), Answer::Claimed(Err(code))) => shard.refuse(&subject, code, refused(code)),
            (Self::Bus(subject), Answer::Explained(Ok(why))) => shard.reply(&subject, &why),
            (Self::Bus(subject), Answer::Explained(Err(code))) => shard.refuse(&subject, code, refused(code)),
        }
    }
}

/// Where a backend wants its answer. None for a message that wants none, or wants it where only roles may publish.
pub(crate) fn reply_subject(message: &Message) -> Option<String> {
    message.reply.as_ref().filter(|reply| !reply.starts_with("herenow.")).cloned()
}

/// The body that answers a claim that was set.
pub(crate) fn status_set(claimed: &Claimed) -> StatusSet {
    let status = claimed.entry.public.status;
    let message = if claimed.covered {
        "The status is set, but another claim stands above it; watchers see that one."
    } else {
        "The status is set."
    };
    StatusSet { success: true, message: message.to_owned(), status, expires_at: claimed.expires_at }
}

/// What is said when the core refuses.
pub(crate) fn refused(code: ErrorCode) -> &'static str {
    if code == ErrorCode::Unavailable {
        "the owner of the user's partition did not answer in time"
    } else {
        "the gateway refused the request"
    }
}
