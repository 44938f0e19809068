//! Claims and explanations on their way to owners and back.

use herenow_protocol::code::ErrorCode;
use herenow_protocol::frame::{ManualStatus, ServerFrame};
use herenow_protocol::message::{ClaimCommand, ClaimDone, ClaimRequest, ExplainRequest, Up};
use herenow_protocol::{Now, UserId, Version, WallTime, limit};

use crate::gateway::Gateway;
use crate::io::Ticket;
use crate::request::{Asker, ClaimState, Due, ExplainState};
use crate::watch::Known;
use crate::{Output, Slot};

/// Checks the values of a `status` frame.
pub(crate) fn manual(
    status: ManualStatus,
    text: Option<String>,
    emoji: Option<String>,
    expires_at: Option<WallTime>,
) -> Result<ClaimCommand, &'static str> {
    if text.as_ref().is_some_and(|text| text.len() > limit::STATUS_TEXT_BYTES) {
        return Err("the field `text` has more than 256 bytes");
    }
    if emoji.as_ref().is_some_and(|emoji| emoji.len() > limit::STATUS_EMOJI_BYTES) {
        return Err("the field `emoji` has more than 64 bytes");
    }
    let (text, emoji) = (text.map(String::into_boxed_str), emoji.map(String::into_boxed_str));
    Ok(ClaimCommand::Manual { status, text, emoji, expires_at })
}

impl Gateway {
    pub(crate) fn on_session_claim(
        &mut self,
        slot: Slot,
        id: u64,
        claim: Result<ClaimCommand, &'static str>,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let command = match claim {
            Ok(command) => command,
            Err(message) => {
                self.post_error(slot, Some(id), ErrorCode::InvalidValue, message.to_owned(), now, out);
                return;
            }
        };
        let late = |end: WallTime| end <= now.wall;
        if matches!(&command, ClaimCommand::Manual { expires_at: Some(end), .. } if late(*end)) {
            let message = "the field `expiresAt` is in the past".to_owned();
            self.post_error(slot, Some(id), ErrorCode::InvalidValue, message, now, out);
            return;
        }
        if !self.take_request(slot, id, now, out) {
            return;
        }
        let Some(caller) = self.caller(slot, id) else { return };
        let Some(user) = self.session(slot).map(|session| session.viewer.user.clone()) else { return };
        self.send_claim(Asker::Watch(caller), user, command, now, out);
    }

    pub(crate) fn on_claim(
        &mut self,
        ticket: Ticket,
        user: UserId,
        command: ClaimCommand,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        if self.pending.len() >= self.config.max_requests {
            out.push(Output::ClaimDone(ticket, Err(ErrorCode::TooManyRequests)));
        } else {
            self.send_claim(Asker::Ticket(ticket), user, command, now, out);
        }
    }

    fn send_claim(
        &mut self,
        asker: Asker,
        user: UserId,
        command: ClaimCommand,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let number = self.pending.number();
        let key = self.placement.key(&user);
        let partition = self.placement.partition(key);
        let origin = self.uplink.origin().clone();
        let message = ClaimRequest { origin, partition, request: number, key, user, command };
        out.push(Output::Up(Up::Claim(message.clone())));
        let due = now.mono.after(self.config.request_timeout);
        self.pending.claims.insert(number, ClaimState { asker, message, due });
        self.pending.at(now.mono.after(self.config.pull_timeout), Due::Claim(number));
    }

    /// No answer: the claim is sent again, as setting it twice is setting it once, or given up.
    pub(crate) fn claim_again(&mut self, number: u64, now: Now, out: &mut Vec<Output>) {
        let Some(state) = self.pending.claims.get(&number) else { return };
        if now.mono >= state.due {
            self.finish_claim(number, Err(ErrorCode::Unavailable), now, out);
            return;
        }
        out.push(Output::Up(Up::Claim(state.message.clone())));
        let again = now.mono.after(self.config.pull_timeout).min(state.due);
        self.pending.at(again, Due::Claim(number));
    }

    pub(crate) fn on_claim_done(&mut self, done: ClaimDone, now: Now, out: &mut Vec<Output>) {
        let Some(state) = self.pending.claims.get(&done.request) else { return };
        let partition = state.message.partition;
        if done.epoch < self.epoch(partition) && done.outcome.is_ok() {
            self.stats.fenced += 1;
            return;
        }
        let epoch = done.epoch;
        let outcome = done.outcome.map(|claimed| {
            self.learn(partition, claimed.entry.key, Known::new(epoch, claimed.entry.clone()), now, out);
            (Version { epoch, n: claimed.entry.n() }, claimed)
        });
        self.finish_claim(done.request, outcome, now, out);
    }

    fn finish_claim(
        &mut self,
        number: u64,
        outcome: Result<(Version, herenow_protocol::message::Claimed), ErrorCode>,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let Some(state) = self.pending.claims.remove(&number) else { return };
        match state.asker {
            Asker::Ticket(ticket) => out.push(Output::ClaimDone(ticket, outcome)),
            Asker::Watch(caller) | Asker::Query(caller) => {
                let Some((slot, id)) = self.still_there(caller) else { return };
                self.close_request(slot);
                match outcome {
                    Ok(_) => self.post(slot, &ServerFrame::Ack { id }, now, out),
                    Err(code) => {
                        let message = "the owner of the partition did not take the claim".to_owned();
                        self.post_error(slot, Some(id), code, message, now, out);
                    }
                }
            }
        }
    }

    pub(crate) fn on_explain(&mut self, ticket: Ticket, user: &UserId, now: Now, out: &mut Vec<Output>) {
        if self.pending.len() >= self.config.max_requests {
            out.push(Output::Explained(ticket, Err(ErrorCode::TooManyRequests)));
            return;
        }
        let number = self.pending.number();
        let key = self.placement.key(user);
        let partition = self.placement.partition(key);
        let message =
            ExplainRequest { origin: self.uplink.origin().clone(), partition, request: number, key };
        out.push(Output::Up(Up::Explain(message)));
        self.pending.explains.insert(number, ExplainState { ticket });
        self.pending.at(now.mono.after(self.config.request_timeout), Due::Explain(number));
    }

    pub(crate) fn on_explained(&mut self, request: u64, json: &str, out: &mut Vec<Output>) {
        let Some(state) = self.pending.explains.remove(&request) else { return };
        let explained = serde_json::from_str(json).map(Box::new).map_err(|_| ErrorCode::Unavailable);
        out.push(Output::Explained(state.ticket, explained));
    }
}
