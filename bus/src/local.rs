//! The bus and the arbiter of one process.
//!
//! Publishing takes a read lock and offers the message to bounded queues, so that no publisher waits for a reader,
//! nor for another publisher; only a change of subscriptions takes the write lock, for as long as one insertion.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use futures::future::{BoxFuture, FutureExt as _, ready};
use herenow_protocol::{Epoch, Partition};
use tokio::sync::{broadcast, mpsc};

use crate::{
    Bus, EVENTS, EpochStore, Event, Message, PAYLOAD_BYTES, PublishError, Recorded, SUBSCRIPTION_MESSAGES,
    SubscribeError, Subscription, subject,
};

/// A bus within one process. Cheap to clone; clones are the same bus, on any thread and runtime.
#[derive(Clone, Debug)]
pub struct LocalBus(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    subscribers: RwLock<Subscribers>,
    events: broadcast::Sender<Event>,
    /// Messages a subscription holds.
    capacity: usize,
    next: AtomicU64,
    /// Whose turn it is in queue groups.
    turn: AtomicUsize,
}

#[derive(Debug, Default)]
struct Subscribers {
    exact: HashMap<String, Vec<Subscriber>>,
    patterns: Vec<(String, Subscriber)>,
}

#[derive(Debug)]
struct Subscriber {
    number: u64,
    queue: Option<String>,
    messages: mpsc::Sender<Message>,
    /// It drops messages, and this was said; until it has caught up with half of its queue, it is not said again.
    behind: AtomicBool,
}

impl Default for LocalBus {
    fn default() -> Self {
        Self::new()
    }
}

impl LocalBus {
    /// Makes a bus whose subscriptions hold [`SUBSCRIPTION_MESSAGES`] each.
    #[must_use]
    pub fn new() -> Self {
        Self::with_capacity(SUBSCRIPTION_MESSAGES)
    }

    /// Makes a bus whose subscriptions hold this many messages each, at least one.
    #[must_use]
    pub fn with_capacity(messages: usize) -> Self {
        Self(Arc::new(Shared {
            subscribers: RwLock::default(),
            events: broadcast::Sender::new(EVENTS),
            capacity: messages.max(1),
            next: AtomicU64::new(0),
            turn: AtomicUsize::new(0),
        }))
    }

    /// Publishes as [`Bus::publish`] does, and names the subject on which an answer is expected: what a backend in
    /// the same process does to ask.
    ///
    /// # Errors
    /// Why it was not sent.
    pub fn publish_with_reply(&self, subject: &str, reply: &str, payload: Bytes) -> Result<(), PublishError> {
        if !subject::publishable(reply) {
            return Err(PublishError::Subject);
        }
        self.send(subject, Some(reply), payload)
    }

    fn send(&self, subject: &str, reply: Option<&str>, payload: Bytes) -> Result<(), PublishError> {
        if !subject::publishable(subject) {
            return Err(PublishError::Subject);
        }
        if payload.len() > PAYLOAD_BYTES {
            return Err(PublishError::TooBig);
        }
        let message = Message { subject: subject.to_owned(), payload, reply: reply.map(str::to_owned) };
        self.0.deliver(&message);
        Ok(())
    }

    fn add(&self, subject: &str, queue: Option<&str>) -> Result<Subscription, SubscribeError> {
        if !subject::subscribable(subject) {
            return Err(SubscribeError::new(subject, "not a legal subject"));
        }
        if !queue.is_none_or(subject::queueable) {
            return Err(SubscribeError::new(subject, "not a legal queue"));
        }
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (messages, receiver) = mpsc::channel(self.0.capacity);
        let subscriber =
            Subscriber { number, queue: queue.map(str::to_owned), messages, behind: AtomicBool::new(false) };
        self.0.subscribers.write().unwrap_or_else(PoisonError::into_inner).add(subject, subscriber);
        let bus = Arc::downgrade(&self.0);
        Ok(Subscription::new(Messages { receiver, bus, subject: subject.to_owned(), number }))
    }
}

impl Bus for LocalBus {
    fn publish(&self, subject: &str, payload: Bytes) -> Result<(), PublishError> {
        self.send(subject, None, payload)
    }

    fn subscribe<'a>(
        &'a self,
        subject: &'a str,
        queue: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Subscription, SubscribeError>> {
        ready(self.add(subject, queue)).boxed()
    }

    fn events(&self) -> broadcast::Receiver<Event> {
        self.0.events.subscribe()
    }
}

impl Shared {
    fn deliver(&self, message: &Message) {
        let subscribers = self.subscribers.read().unwrap_or_else(PoisonError::into_inner);
        let mut queues = BTreeMap::<&str, Vec<&Subscriber>>::new();
        for subscriber in subscribers.of(&message.subject) {
            match &subscriber.queue {
                None => self.offer(subscriber, message),
                Some(queue) => queues.entry(queue).or_default().push(subscriber),
            }
        }
        for members in queues.values() {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            self.offer(members[turn % members.len()], message);
        }
    }

    fn offer(&self, subscriber: &Subscriber, message: &Message) {
        match subscriber.messages.try_send(message.clone()) {
            Ok(()) if subscriber.messages.capacity() >= self.capacity / 2 => {
                subscriber.behind.store(false, Ordering::Relaxed);
            }
            Err(mpsc::error::TrySendError::Full(_)) if !subscriber.behind.swap(true, Ordering::Relaxed) => {
                // Nobody listening to events is no error.
                let _ = self.events.send(Event::Lossy);
            }
            Ok(()) | Err(_) => {}
        }
    }
}

impl Subscribers {
    fn add(&mut self, subject: &str, subscriber: Subscriber) {
        if subject::is_pattern(subject) {
            self.patterns.push((subject.to_owned(), subscriber));
        } else {
            self.exact.entry(subject.to_owned()).or_default().push(subscriber);
        }
    }

    fn remove(&mut self, subject: &str, number: u64) {
        if subject::is_pattern(subject) {
            self.patterns.retain(|(_, subscriber)| subscriber.number != number);
        } else if let Some(same) = self.exact.get_mut(subject) {
            same.retain(|subscriber| subscriber.number != number);
            if same.is_empty() {
                self.exact.remove(subject);
            }
        }
    }

    fn of<'a>(&'a self, subject: &'a str) -> impl Iterator<Item = &'a Subscriber> {
        let exact = self.exact.get(subject).into_iter().flatten();
        let patterns = self.patterns.iter().filter(move |(pattern, _)| subject::matches(pattern, subject));
        exact.chain(patterns.map(|(_, subscriber)| subscriber))
    }
}

/// The receiving end of a subscription; takes itself off the bus when dropped.
struct Messages {
    receiver: mpsc::Receiver<Message>,
    bus: Weak<Shared>,
    subject: String,
    number: u64,
}

impl Stream for Messages {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.receiver.poll_recv(cx)
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        if let Some(bus) = self.bus.upgrade() {
            let mut subscribers = bus.subscribers.write().unwrap_or_else(PoisonError::into_inner);
            subscribers.remove(&self.subject, self.number);
        }
    }
}

/// The arbiter within one process. Cheap to clone; clones are the same arbiter.
#[derive(Clone, Debug, Default)]
pub struct LocalEpochs(Arc<Mutex<BTreeMap<Partition, (Epoch, String)>>>);

impl LocalEpochs {
    /// Makes an arbiter with nothing on record.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl EpochStore for LocalEpochs {
    fn record(&self, partition: Partition, epoch: Epoch, owner: &str) -> BoxFuture<'_, Recorded> {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = match records.get(&partition) {
            Some((held, by)) if (*held, by.as_str()) == (epoch, owner) => Recorded::Yes,
            Some((held, _)) if *held >= epoch => Recorded::Conflict(*held),
            Some(_) | None => {
                records.insert(partition, (epoch, owner.to_owned()));
                Recorded::Yes
            }
        };
        ready(answer).boxed()
    }

    fn load(&self) -> BoxFuture<'_, Vec<(Partition, Epoch)>> {
        let records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = records.iter().map(|(partition, (epoch, _))| (*partition, *epoch)).collect();
        ready(all).boxed()
    }
}
