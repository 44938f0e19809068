//! Carrying out what the core wants.

use std::rc::Rc;

use bytes::Bytes;
use herenow_bus::Message;
use herenow_gateway_core::{Input, Output, Slot};
use herenow_protocol::codec::{self, CodecError};
use herenow_protocol::message::Up;
use herenow_protocol::{Now, Partition, subject};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Shard;
use crate::calls::Answer;
use crate::inbox;

impl Shard {
    pub(super) fn execute(self: &Rc<Self>, output: Output, now: Now, out: &mut Vec<Output>) {
        match output {
            Output::Ready(slot) => self.poke(slot, |row| row.ready = true),
            Output::Close(slot, code) => self.poke(slot, |row| row.close = Some(code)),
            Output::Verify { slot, id, token } => self.renew(slot, id, &token, now, out),
            Output::Up(up) => self.send_up(&up, now),
            Output::Beat(beat) => self.send(subject::GATEWAY_BEATS, &beat),
            Output::Fenced(coordinator, fenced) => self.send(&subject::coordinator(&coordinator), &fenced),
            Output::Subscribe(partition) => self.subscribe_down(partition),
            Output::Unsubscribe(partition) => self.unsubscribe_down(partition),
            Output::Answered(ticket, users) => self.answer(ticket.0, Answer::Users(users)),
            Output::ClaimDone(ticket, outcome) => {
                self.answer(ticket.0, Answer::Claimed(outcome.map(|(_, claimed)| Box::new(claimed))));
            }
            Output::Explained(ticket, outcome) => self.answer(ticket.0, Answer::Explained(outcome)),
        }
    }

    /// A newer token on an open session.
    fn renew(&self, slot: Slot, id: Option<u64>, token: &str, now: Now, out: &mut Vec<Output>) {
        let input = match self.common.verifier.verify(token, now.wall) {
            Ok(good) => Input::Renewed { slot, id, viewer: good.viewer, token_expires: good.expires },
            Err(why) => {
                tracing::debug!(reason = %why, "newer token refused");
                Input::NotRenewed { slot, id, code: why.code() }
            }
        };
        self.core.borrow_mut().handle(input, now, out);
    }

    /// A session that watches a hundred users asks about as many partitions, and about only a few owners: what each is
    /// asked in one turn goes as one. Whoever was asked in vain is asked again.
    fn send_up(&self, up: &Up, now: Now) {
        let core = self.core.borrow();
        let Some(owner) = core.addressee(up, now.mono) else {
            return self.send(&subject::up(up.partition()), up);
        };
        let mut bundles = self.bundles.borrow_mut();
        let full = match bundles.get_mut(owner) {
            Some(bundle) => bundle.add(up),
            None => bundles.entry(owner.clone()).or_default().add(up),
        };
        match full {
            Ok(None) => {}
            Ok(Some(full)) => self.publish(&subject::owner(owner), Bytes::from(full)),
            Err(why) => self.unwritable(&subject::owner(owner), why),
        }
    }

    /// Sends what was bundled in this turn.
    pub(super) fn send_bundles(&self) {
        for (owner, mut bundle) in self.bundles.borrow_mut().drain() {
            if let Some(bytes) = bundle.take() {
                self.publish(&subject::owner(&owner), Bytes::from(bytes));
            }
        }
    }

    /// Publishes, or counts that it could not: the rules of repair find what is missing.
    fn send<T: Serialize>(&self, subject: &str, message: &T) {
        match codec::encode(message) {
            Ok(bytes) => self.publish(subject, Bytes::from(bytes)),
            Err(why) => self.unwritable(subject, why),
        }
    }

    fn unwritable(&self, subject: &str, why: CodecError) {
        tracing::error!(subject, %why, "message cannot be written");
        self.metrics().publish_failures.inc();
    }

    pub(crate) fn publish(&self, subject: &str, payload: Bytes) {
        if let Err(why) = self.common.bus.publish(subject, payload) {
            tracing::debug!(subject, %why, "not published");
            self.metrics().publish_failures.inc();
        }
    }

    fn answer(&self, ticket: u64, answer: Answer) {
        let asker = self.askers.borrow_mut().remove(&ticket);
        if let Some(asker) = asker {
            asker.answer(self, answer);
        }
    }

    fn subscribe_down(self: &Rc<Self>, partition: Partition) {
        let task = tokio::task::spawn_local(inbox::down(Rc::clone(self), partition));
        if let Some(old) = self.downs.borrow_mut().insert(partition, task.abort_handle()) {
            old.abort();
        }
    }

    fn unsubscribe_down(&self, partition: Partition) {
        if let Some(task) = self.downs.borrow_mut().remove(&partition) {
            task.abort();
        }
    }

    /// Reads a message, or counts that it could not.
    pub(crate) fn read<T: DeserializeOwned>(&self, message: &Message) -> Option<T> {
        self.understood(message, codec::decode(&message.payload))
    }

    /// The same of a bundle, message by message.
    pub(crate) fn read_bundle<T: DeserializeOwned>(&self, message: &Message) -> Vec<T> {
        self.understood(message, codec::decode_bundle(&message.payload)).unwrap_or_default()
    }

    fn understood<T>(&self, message: &Message, read: Result<T, CodecError>) -> Option<T> {
        self.metrics().messages_in.inc();
        read.inspect_err(|why| {
            tracing::debug!(subject = message.subject, %why, "message cannot be read");
            self.metrics().decode_errors.inc();
        })
        .ok()
    }
}
