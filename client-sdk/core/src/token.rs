//! The application's token: when to ask for it, and what to do with one that comes.

use herenow_protocol::MonoTime;

use crate::client::Phase;
use crate::requests::{Job, Open};
use crate::{Client, Failure, Output};

/// The application's token, as far as the client has it.
#[derive(Debug, Default)]
pub(crate) struct Token {
    pub(crate) value: Option<String>,
    /// It was got for the present attempt: if it is not accepted, asking again is of no use.
    pub(crate) fresh: bool,
    /// The application was asked and has not answered.
    asked: bool,
    /// When to ask again while a session is open.
    pub(crate) ask_at: Option<MonoTime>,
    pub(crate) failures: u32,
}

impl Client {
    pub(crate) fn need_token(&mut self, out: &mut Vec<Output>) {
        if !std::mem::replace(&mut self.token.asked, true) {
            out.push(Output::NeedToken);
        }
    }

    pub(crate) fn token_came(&mut self, token: String, now: MonoTime, out: &mut Vec<Output>) {
        self.token.asked = false;
        self.token.fresh = true;
        self.token.value = Some(token.clone());
        match &self.phase {
            Phase::AwaitingToken => self.open(now, out),
            Phase::Up(_) => {
                let deadline = now.after(self.config.request_timeout);
                let frame = self.requests.start(Open { job: Job::Auth(token), deadline });
                self.send(&frame, now, out);
            }
            Phase::Waiting(_) | Phase::Opening(_) | Phase::Leaving(_) | Phase::Stopped => {}
        }
    }

    pub(crate) fn token_failed(&mut self, failure: Failure, now: MonoTime, out: &mut Vec<Output>) {
        self.token.asked = false;
        match &self.phase {
            Phase::AwaitingToken => self.lost(failure, now, out),
            Phase::Up(_) => self.ask_token_later(failure, now, out),
            Phase::Waiting(_) | Phase::Opening(_) | Phase::Leaving(_) | Phase::Stopped => {}
        }
    }

    pub(crate) fn ask_token_later(&mut self, failure: Failure, now: MonoTime, out: &mut Vec<Output>) {
        let wait = self.draw(self.token.failures);
        self.token.failures = self.token.failures.saturating_add(1);
        self.token.ask_at = Some(now.after(wait));
        out.push(Output::Problem(failure));
    }
}
