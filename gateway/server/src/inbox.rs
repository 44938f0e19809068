//! What reaches a shard over the bus.

use std::rc::Rc;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use herenow_bus::{Event, Message};
use herenow_gateway_core::{BusEvent, Input};
use herenow_protocol::{Now, Partition, subject};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::oneshot;

use crate::shard::Shard;

/// Messages taken in one turn.
const BATCH: usize = 128;
/// Before a subscription that failed or ended is made again.
const RETRY: Duration = Duration::from_millis(500);

/// Feeds what owners say of a partition, until the task is aborted.
pub(crate) async fn down(shard: Rc<Shard>, partition: Partition) {
    pump(&shard, &subject::down(partition), None, None, |shard, message, now| {
        if let Some(delta) = shard.read(message) {
            shard.feed(Input::Down(delta), now);
        }
    })
    .await;
}

/// Feeds what is sent to this gateway.
pub(crate) async fn messages(shard: Rc<Shard>, begun: Begun) {
    let subject = subject::gateway(&shard.id);
    pump(&shard, &subject, None, Some(begun), |shard, message, now| {
        for message in shard.read_bundle(message) {
            shard.feed(Input::Message(message), now);
        }
    })
    .await;
}

/// Feeds the coordinators' signs of life.
pub(crate) async fn beats(shard: Rc<Shard>, begun: Begun) {
    pump(&shard, subject::COORDINATOR_BEATS, None, Some(begun), |shard, message, now| {
        if let Some(beat) = shard.read(message) {
            shard.feed(Input::Beat(beat), now);
        }
    })
    .await;
}

/// Feeds what becomes of the bus.
pub(crate) async fn events(shard: Rc<Shard>, mut events: broadcast::Receiver<Event>) {
    loop {
        let event = match events.recv().await {
            Ok(Event::Connected) => BusEvent::Connected,
            Ok(Event::Disconnected) => BusEvent::Disconnected,
            Ok(Event::Lossy) | Err(RecvError::Lagged(_)) => BusEvent::Lossy,
            Err(RecvError::Closed) => return,
        };
        shard.feed(Input::Bus(event), shard.now());
    }
}

/// Calls the core when it wants to be called.
pub(crate) async fn timer(shard: Rc<Shard>) {
    loop {
        match shard.arm() {
            None => shard.earlier.notified().await,
            Some(next) => {
                let at = shard.common.clock.instant(next);
                if tokio::time::timeout_at(at, shard.earlier.notified()).await.is_err() {
                    shard.feed_time(shard.now());
                }
            }
        }
    }
}

/// Told once a subscription is made: what is sent from then on arrives.
pub(crate) type Begun = oneshot::Sender<()>;

/// Takes messages of one subject, all that are ready in a turn; both clocks are read once for all of them.
pub(crate) async fn pump(
    shard: &Rc<Shard>,
    subject: &str,
    queue: Option<&str>,
    mut begun: Option<Begun>,
    take: impl Fn(&Rc<Shard>, &Message, Now),
) {
    loop {
        match shard.common.bus.subscribe(subject, queue).await {
            Ok(mut messages) => {
                // Nobody waits for it any more: then it is all the same.
                let _ = begun.take().map(|begun| begun.send(()));
                while let Some(first) = messages.next().await {
                    let now = shard.now();
                    take(shard, &first, now);
                    let mut taken = 1;
                    while taken < BATCH
                        && let Some(Some(next)) = messages.next().now_or_never()
                    {
                        take(shard, &next, now);
                        taken += 1;
                    }
                    if taken == BATCH {
                        tokio::task::yield_now().await;
                    }
                }
            }
            Err(why) => {
                tracing::warn!(%why, "subscription failed");
                shard.metrics().subscribe_failures.inc();
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}
