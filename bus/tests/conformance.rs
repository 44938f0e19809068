//! What every bus and every arbiter does: the same cases against the ones in one process and the ones over a real
//! NATS server. Cases that only a server can have are in `nats.rs`.
#![allow(clippy::unwrap_used, reason = "a test may fail so")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use herenow_bus::testing::NatsServer;
use herenow_bus::{
    Bus, EpochStore, Event, LocalBus, LocalEpochs, NatsBus, NatsConfig, PAYLOAD_BYTES, PublishError,
    Recorded, SUBJECT_BYTES, Subscription,
};
use herenow_protocol::{Epoch, Partition};
use tokio::time::timeout;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing must come, where nothing may.
const SILENCE: Duration = Duration::from_millis(200);
/// Messages a subscription of the worlds here holds.
const CAPACITY: usize = 256;

/// What is published until somebody hears it, and after that.
const PROBE: &str = "probe";
const END: &str = "end of probes";
/// How often the arbiter is asked before a test gives up.
const ATTEMPTS: usize = 50;

/// Two participants of one bus and one arbiter, and a backend that asks.
struct World {
    a: Arc<dyn Bus>,
    b: Arc<dyn Bus>,
    epochs_a: Arc<dyn EpochStore>,
    epochs_b: Arc<dyn EpochStore>,
    ask: Box<dyn Fn(&'static str, &'static str) + Send + Sync>,
    _server: Option<NatsServer>,
}

fn local() -> World {
    let bus = LocalBus::with_capacity(CAPACITY);
    let epochs = Arc::new(LocalEpochs::new());
    let asker = bus.clone();
    World {
        a: Arc::new(bus.clone()),
        b: Arc::new(bus),
        epochs_a: epochs.clone(),
        epochs_b: epochs,
        ask: Box::new(move |subject, reply| {
            asker.publish_with_reply(subject, reply, Bytes::from_static(b"?")).unwrap();
        }),
        _server: None,
    }
}

async fn nats() -> World {
    let server = NatsServer::start().await;
    let (a, b) = (connected(&server.url).await, connected(&server.url).await);
    let backend = async_nats::connect(&server.url).await.unwrap();
    World {
        epochs_a: Arc::new(a.epochs()),
        epochs_b: Arc::new(b.epochs()),
        a: Arc::new(a),
        b: Arc::new(b),
        ask: Box::new(move |subject, reply| {
            let backend = backend.clone();
            tokio::spawn(async move { backend.publish_with_reply(subject, reply, "?".into()).await });
        }),
        _server: Some(server),
    }
}

async fn connected(url: &str) -> NatsBus {
    let servers = vec![url.to_owned()];
    let config = NatsConfig { servers, subscription_capacity: CAPACITY, ..NatsConfig::default() };
    let bus = NatsBus::connect(&config).await.unwrap();
    let mut events = bus.events();
    while !bus.is_connected() {
        assert_eq!(timeout(PATIENCE, events.recv()).await.unwrap().unwrap(), Event::Connected);
    }
    bus
}

/// Subscribes, and returns when what the other participant publishes arrives.
async fn heard_by(bus: &dyn Bus, speaker: &dyn Bus, subject: &str, probe: &str) -> Subscription {
    let mut subscription = bus.subscribe(subject, None).await.unwrap();
    reach(&mut subscription, speaker, probe).await;
    speaker.publish(probe, END.into()).unwrap();
    while next(&mut subscription).await != END {}
    subscription
}

/// Publishes probes until the subscription has had one. More may be under way.
async fn reach(subscription: &mut Subscription, speaker: &dyn Bus, probe: &str) {
    let until_one = async {
        loop {
            speaker.publish(probe, PROBE.into()).unwrap();
            if timeout(SILENCE / 4, subscription.next()).await.is_ok() {
                break;
            }
        }
    };
    timeout(PATIENCE, until_one).await.unwrap();
}

/// The next message that is no probe.
async fn next(subscription: &mut Subscription) -> String {
    loop {
        let message = timeout(PATIENCE, subscription.next()).await.expect("a message comes");
        let text = String::from_utf8(message.expect("it goes on").payload.to_vec()).unwrap();
        if text != PROBE {
            return text;
        }
    }
}

async fn silent(subscription: &mut Subscription) {
    let came = timeout(SILENCE, subscription.next()).await;
    assert!(came.is_err(), "{came:?}");
}

fn epoch(counter: u32, nonce: u32) -> Epoch {
    Epoch { counter, nonce }
}

async fn a_message_reaches_whoever_is_subscribed(world: World) {
    let mut one = heard_by(&*world.b, &*world.a, "t.x", "t.x").await;
    let mut other = heard_by(&*world.b, &*world.a, "t.y", "t.y").await;
    world.a.publish("t.x", "hello".into()).unwrap();
    let message = timeout(PATIENCE, one.next()).await.unwrap().unwrap();
    assert_eq!((message.subject.as_str(), &message.payload[..]), ("t.x", &b"hello"[..]));
    assert_eq!(message.reply, None);
    silent(&mut other).await;
}

async fn one_publishers_messages_keep_their_order(world: World) {
    let mut messages = heard_by(&*world.b, &*world.a, "t.>", "t.probe").await;
    for n in 0..CAPACITY {
        let subject = if n.is_multiple_of(2) { "t.even" } else { "t.odd" };
        world.a.publish(subject, n.to_string().into()).unwrap();
    }
    for n in 0..CAPACITY {
        assert_eq!(next(&mut messages).await, n.to_string());
    }
}

async fn wildcards_take_one_token_or_the_rest(world: World) {
    let mut star = heard_by(&*world.b, &*world.a, "t.*.end", "t.probe.end").await;
    let mut rest = heard_by(&*world.b, &*world.a, "t.rest.>", "t.rest.probe").await;
    for subject in ["t.1.end", "t.1.2.end", "t.end", "t.rest", "t.rest.1", "t.rest.1.2"] {
        world.a.publish(subject, subject.into()).unwrap();
    }
    assert_eq!(next(&mut star).await, "t.1.end");
    silent(&mut star).await;
    assert_eq!(next(&mut rest).await, "t.rest.1");
    assert_eq!(next(&mut rest).await, "t.rest.1.2");
    silent(&mut rest).await;
}

async fn a_queue_gives_each_message_to_one_and_all_a_share(world: World) {
    let mut first = world.a.subscribe("t.q", Some("workers")).await.unwrap();
    let mut second = world.b.subscribe("t.q", Some("workers")).await.unwrap();
    let mut everything = world.b.subscribe("t.q", None).await.unwrap();
    for subscription in [&mut first, &mut second, &mut everything] {
        reach(subscription, &*world.a, "t.q").await;
    }
    for n in 0..100 {
        world.a.publish("t.q", n.to_string().into()).unwrap();
    }
    let (mut shares, mut once) = ([0, 0], BTreeSet::new());
    while shares.iter().sum::<i32>() < 100 {
        let (taker, text) = tokio::select! {
            text = next(&mut first) => (0, text),
            text = next(&mut second) => (1, text),
        };
        shares[taker] += 1;
        assert!(once.insert(text), "nothing comes twice");
    }
    assert!(shares.iter().all(|share| *share > 0), "{shares:?}");
    for n in 0..100 {
        assert_eq!(next(&mut everything).await, n.to_string());
    }
}

async fn own_messages_come_back(world: World) {
    // R7: a process that does not hear itself is isolated.
    for subject in ["herenow.i1.beat.gateway", "herenow.i1.up.7"] {
        let mut own = world.a.subscribe(subject, None).await.unwrap();
        world.a.publish(subject, "me".into()).unwrap();
        assert_eq!(next(&mut own).await, "me");
    }
}

async fn a_question_says_where_its_answer_goes(world: World) {
    let mut questions = heard_by(&*world.a, &*world.b, "t.ask", "t.ask").await;
    (world.ask)("t.ask", "_INBOX.1.2");
    let question = timeout(PATIENCE, questions.next()).await.unwrap().unwrap();
    assert_eq!(question.reply.as_deref(), Some("_INBOX.1.2"));
    let mut answers = heard_by(&*world.b, &*world.a, "_INBOX.1.*", "_INBOX.1.probe").await;
    world.a.publish(&question.reply.unwrap(), "!".into()).unwrap();
    assert_eq!(next(&mut answers).await, "!");
}

async fn dropping_a_subscription_ends_it(world: World) {
    let mut kept = world.a.subscribe("t.q", Some("workers")).await.unwrap();
    for _ in 0..20 {
        drop(world.a.subscribe("t.q", Some("workers")).await.unwrap());
    }
    reach(&mut kept, &*world.a, "t.q").await;
    // Were any of the others still there, it would take its share.
    for n in 0..50 {
        world.a.publish("t.q", n.to_string().into()).unwrap();
    }
    for n in 0..50 {
        assert_eq!(next(&mut kept).await, n.to_string());
    }
}

async fn a_slow_subscriber_loses_the_newest_and_is_told(world: World) {
    let mut messages = heard_by(&*world.b, &*world.a, "t.x", "t.x").await;
    let mut events = world.b.events();
    for n in 0..CAPACITY + 100 {
        world.a.publish("t.x", n.to_string().into()).unwrap();
    }
    assert_eq!(timeout(PATIENCE, events.recv()).await.unwrap().unwrap(), Event::Lossy);
    for n in 0..CAPACITY {
        assert_eq!(next(&mut messages).await, n.to_string());
    }
    silent(&mut messages).await;
    // It lives on, and is told again when it happens again.
    world.a.publish("t.x", "after".into()).unwrap();
    assert_eq!(next(&mut messages).await, "after");
    while timeout(SILENCE, events.recv()).await.is_ok() {}
    for n in 0..=CAPACITY {
        world.a.publish("t.x", n.to_string().into()).unwrap();
    }
    assert_eq!(timeout(PATIENCE, events.recv()).await.unwrap().unwrap(), Event::Lossy);
}

async fn illegal_subjects_are_refused_and_harm_nobody(world: World) {
    let mut messages = heard_by(&*world.b, &*world.a, "t.>", "t.probe").await;
    let long = format!("t.{}", "x".repeat(SUBJECT_BYTES));
    for subject in ["", ".", "t.", ".t", "t..x", "t.a b", "t.*", "t.>", "t\r\nPUB x 0\r\n", long.as_str()] {
        assert_eq!(world.a.publish(subject, "x".into()), Err(PublishError::Subject), "{subject:?}");
    }
    for subject in ["", "t..x", "t.>.x", "t.x*", "t x"] {
        assert!(world.a.subscribe(subject, None).await.is_err(), "{subject:?}");
    }
    for queue in ["", "a b", "a.b", "*"] {
        assert!(world.a.subscribe("t.x", Some(queue)).await.is_err(), "{queue:?}");
    }
    world.a.publish("t.x", "still here".into()).unwrap();
    assert_eq!(next(&mut messages).await, "still here");
}

async fn too_big_a_message_is_refused_and_harms_nobody(world: World) {
    let mut messages = heard_by(&*world.b, &*world.a, "t.x", "t.x").await;
    let big = Bytes::from(vec![b'x'; PAYLOAD_BYTES + 1]);
    assert_eq!(world.a.publish("t.x", big.clone()), Err(PublishError::TooBig));
    world.a.publish("t.x", big.slice(1..)).unwrap();
    assert_eq!(next(&mut messages).await.len(), PAYLOAD_BYTES);
}

async fn several_threads_publish_and_subscribe(world: World) {
    let mut messages = heard_by(&*world.b, &*world.a, "t.x", "t.x").await;
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let bus = world.a.clone();
            std::thread::spawn(move || {
                for n in 0..50 {
                    bus.publish("t.x", format!("{thread}.{n}").into()).unwrap();
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let mut came = BTreeSet::new();
    for _ in 0..200 {
        came.insert(next(&mut messages).await);
    }
    assert_eq!(came.len(), 200);
}

/// Records a claim, again while the arbiter has no time: machines that run tests are slow at times.
async fn claim(store: &dyn EpochStore, partition: u8, epoch: Epoch, owner: &str) -> Recorded {
    for _ in 0..ATTEMPTS {
        match store.record(Partition(partition), epoch, owner).await {
            Recorded::Unavailable => {}
            answer @ (Recorded::Yes | Recorded::Conflict(_)) => return answer,
        }
    }
    panic!("the arbiter is there");
}

/// Loads until there is something.
async fn loaded(store: &dyn EpochStore) -> Vec<(Partition, Epoch)> {
    for _ in 0..ATTEMPTS {
        let all = store.load().await;
        if !all.is_empty() {
            return all;
        }
    }
    panic!("something is on record");
}

async fn the_highest_claim_is_kept(world: World) {
    let (one, two) = (&*world.epochs_a, &*world.epochs_b);
    assert_eq!(one.load().await, []);
    assert_eq!(claim(one, 200, epoch(1, 5), "c1").await, Recorded::Yes);
    assert_eq!(claim(two, 200, epoch(1, 4), "c2").await, Recorded::Conflict(epoch(1, 5)));
    assert_eq!(claim(two, 200, epoch(1, 5), "c2").await, Recorded::Conflict(epoch(1, 5)));
    assert_eq!(claim(two, 200, epoch(1, 6), "c2").await, Recorded::Yes);
    assert_eq!(claim(one, 200, epoch(1, 5), "c1").await, Recorded::Conflict(epoch(1, 6)));
    assert_eq!(claim(one, 200, epoch(4, 0), "c1").await, Recorded::Yes);
    assert_eq!(loaded(one).await, [(Partition(200), epoch(4, 0))]);
}

async fn the_same_claim_may_be_recorded_again(world: World) {
    let store = &*world.epochs_a;
    assert_eq!(claim(store, 0, epoch(2, 9), "c1").await, Recorded::Yes);
    assert_eq!(claim(store, 0, epoch(2, 9), "c1").await, Recorded::Yes);
    assert_eq!(claim(store, 0, epoch(2, 9), "c2").await, Recorded::Conflict(epoch(2, 9)));
}

async fn all_partitions_are_loaded(world: World) {
    for n in [0, 1, 77, 255] {
        assert_eq!(claim(&*world.epochs_a, n, epoch(u32::from(n) + 1, 3), "c1").await, Recorded::Yes);
    }
    let expected = [0, 1, 77, 255].map(|n| (Partition(n), epoch(u32::from(n) + 1, 3)));
    assert_eq!(loaded(&*world.epochs_b).await, expected);
}

async fn of_concurrent_claims_one_wins_at_a_time(world: World) {
    let store = |n: u32| if n.is_multiple_of(2) { &*world.epochs_a } else { &*world.epochs_b };
    // The claimants use the same counter; the nonce orders them. Whoever is told yes stood above all before.
    let claims = (1..=16).map(|nonce| async move {
        (nonce, claim(store(nonce), 3, epoch(1, nonce), &format!("c{nonce}")).await)
    });
    let answers = futures::future::join_all(claims).await;
    assert!(answers.contains(&(16, Recorded::Yes)), "{answers:?}");
    for (nonce, answer) in answers {
        if let Recorded::Conflict(held) = answer {
            assert!(held > epoch(1, nonce), "{nonce}: {held:?}");
        }
    }
    assert_eq!(loaded(store(0)).await, [(Partition(3), epoch(1, 16))]);
    let same = (0..8).map(|n| async move { claim(store(n), 4, epoch(1, 1), &format!("c{n}")).await });
    let won = futures::future::join_all(same).await.into_iter().filter(|a| *a == Recorded::Yes).count();
    assert_eq!(won, 1);
}

macro_rules! conformance {
    ($($case:ident,)*) => {
        mod in_one_process {
            $(#[tokio::test]
            async fn $case() {
                super::$case(super::local()).await;
            })*
        }

        mod over_nats {
            $(#[tokio::test]
            async fn $case() {
                super::$case(super::nats().await).await;
            })*
        }
    };
}

conformance! {
    a_message_reaches_whoever_is_subscribed,
    one_publishers_messages_keep_their_order,
    wildcards_take_one_token_or_the_rest,
    a_queue_gives_each_message_to_one_and_all_a_share,
    own_messages_come_back,
    a_question_says_where_its_answer_goes,
    dropping_a_subscription_ends_it,
    a_slow_subscriber_loses_the_newest_and_is_told,
    illegal_subjects_are_refused_and_harm_nobody,
    too_big_a_message_is_refused_and_harms_nobody,
    several_threads_publish_and_subscribe,
    the_highest_claim_is_kept,
    the_same_claim_may_be_recorded_again,
    all_partitions_are_loaded,
    of_concurrent_claims_one_wins_at_a_time,
}
