//! What owners are asked, and how it is sent.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use herenow_bus::{Bus as _, Message, Subscription};
use herenow_protocol::id::ProcessId;
use herenow_protocol::message::{CoordinatorBeat, OwnedBeat, Pull, Snapshot, ToGateway, Up};
use herenow_protocol::{CoordinatorId, Epoch, Incarnation, Partition, codec, subject};
use serde_json::json;

use crate::support::*;

const EPOCH: Epoch = Epoch { counter: 1, nonce: 1 };
const PARTITIONS: u8 = 4;

fn owner() -> CoordinatorId {
    ProcessId::new("one").unwrap()
}

/// Says that all partitions are owned, until the gateway has heard it twice: the first time it learns of the epoch.
async fn own_all(server: &Server) {
    let owned = |partition: u8| OwnedBeat {
        partition: Partition(partition),
        epoch: EPOCH,
        n: 0,
        settled: true,
        doubts: false,
        by_user: false,
    };
    let mut number = 0;
    while heard(server) < 2 {
        number += 1;
        let beat = CoordinatorBeat {
            id: owner(),
            incarnation: Incarnation(1),
            number,
            clock: number,
            ready: true,
            mourning_ms: 0,
            owned: (0..PARTITIONS).map(owned).collect(),
        };
        server.bus.publish(subject::COORDINATOR_BEATS, Bytes::from(codec::encode(&beat).unwrap())).unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Messages that the gateway has read.
fn heard(server: &Server) -> u64 {
    let text = metrics(server);
    let line = text.lines().find_map(|line| line.strip_prefix("herenow_gateway_messages_in_total "));
    line.unwrap().parse().unwrap()
}

fn pulls(message: &Message) -> Vec<Pull> {
    let asked = codec::decode_bundle::<Up>(&message.payload).unwrap();
    asked.into_iter().filter_map(|up| if let Up::Pull(pull) = up { Some(pull) } else { None }).collect()
}

/// That nobody in it was ever seen.
fn nobody(pull: &Pull) -> ToGateway {
    ToGateway::Snapshot(Snapshot {
        from: owner(),
        partition: pull.partition,
        epoch: EPOCH,
        n: 0,
        settled: true,
        as_of: None,
        clock: 4,
        request: pull.request,
        page: 0,
        last: true,
        entries: Vec::new(),
    })
}

/// What the owner is asked next. Before it, it is told of the session.
async fn asked(to_owner: &mut Subscription) -> Vec<Pull> {
    let asking = async {
        loop {
            let asked = pulls(&to_owner.next().await.unwrap());
            if !asked.is_empty() {
                return asked;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), asking).await.unwrap()
}

fn answer(server: &Server, asked: &[Pull]) {
    let mut answer = codec::Bundle::default();
    for pull in asked {
        assert_eq!(answer.add(&nobody(pull)), Ok(None));
    }
    let gateway = subject::gateway(&asked[0].origin.gateway);
    server.bus.publish(&gateway, Bytes::from(answer.take().unwrap())).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_new_is_let_in_while_owners_answer_late_and_whoever_is_there_is_served() {
    let server = server_with(|config| config.admission.answers_within = Duration::from_millis(20));
    own_all(&server).await;
    let mut to_owner = server.bus.subscribe(&subject::owner(&owner()), None).await.unwrap();
    let token = token_of(json!({ "scope": "presence:read" }));
    let mut peer = session_of(&server, &token);
    peer.send(&text(&json!({ "type": "query", "id": 1, "users": ["ana"] }).to_string()));
    let asked = asked(&mut to_owner).await;
    // An eighth of it counts: more than three times what is allowed.
    tokio::time::sleep(Duration::from_millis(500)).await;
    answer(&server, &asked);
    assert_eq!(peer.frame()["type"], "snapshot");
    let refused = request(&server, &handshake(&bearer(&token)));
    assert_eq!((refused.status, refused.code().as_str()), (503, "busy"));
    let wait = refused.json()["retryAfterMs"].as_u64().unwrap();
    assert!((1_000..=4_000).contains(&wait), "{wait} ms");
    assert!(peer.is_alive());
    // Where nobody asks any more, late answers are forgotten.
    let came = tokio::time::Instant::now();
    while request(&server, &handshake(&bearer(&token))).status != 101 {
        assert!(came.elapsed() < Duration::from_secs(10), "nobody is let in again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_frame_asks_of_one_owner_goes_as_one_message_and_so_does_the_answer() {
    let server = server();
    own_all(&server).await;
    let mut to_owner = server.bus.subscribe(&subject::owner(&owner()), None).await.unwrap();
    let token = token_of(json!({ "scope": "presence:read" }));
    let mut peer = session_of(&server, &token);
    let users: Vec<String> = (0..40).map(|n| format!("user-{n}")).collect();
    peer.send(&text(&json!({ "type": "query", "id": 1, "users": users }).to_string()));
    let asked = asked(&mut to_owner).await;
    let partitions: BTreeSet<Partition> = asked.iter().map(|pull| pull.partition).collect();
    assert_eq!(partitions.len(), usize::from(PARTITIONS));
    assert_eq!(asked.iter().map(|pull| pull.users.len()).sum::<usize>(), users.len());
    answer(&server, &asked);
    let snapshot = peer.frame();
    assert_eq!(snapshot["users"].as_array().unwrap().len(), users.len(), "{snapshot}");
    assert!(
        snapshot["users"].as_array().unwrap().iter().all(|user| user["status"] == "offline"),
        "{snapshot}"
    );
}
