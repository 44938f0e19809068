//! Who may see whom, watch lists, questions, and their limits.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one kind of output")]
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod support;

use herenow_gateway_core::{Grants, Input, Output, Slot, Ticket, Viewer};
use herenow_protocol::code::{CloseCode, ErrorCode};
use herenow_protocol::frame::{ClientFrame, ServerFrame};
use herenow_protocol::message::Ending;
use herenow_protocol::{Activity, Presence, Status};
use support::{PARTITION, World, everybody, many, names, secs, some, user, watch};

fn statuses(presences: &[Presence]) -> Vec<(&str, Status)> {
    presences.iter().map(|p| (p.user_id.as_str(), p.status)).collect()
}

fn renew(world: &mut World, slot: u32, viewer: Viewer) {
    let token_expires = world.wall(3_600_000);
    world.handle(Input::Renewed { slot: Slot(slot), id: None, viewer, token_expires });
}

#[test]
fn a_watch_is_answered_with_all_it_named_each_once() {
    let mut world = World::new();
    world.publish("bob", Status::Online);
    world.open(0, "ana");
    let users = world.watched(0, 7, &["bob", "cy", "bob"]);
    assert_eq!(statuses(&users), [("bob", Status::Online), ("cy", Status::Offline)]);
    assert_eq!(users[1].last_updated, None, "never seen");
    assert_eq!(world.gateway.stats().watches, 2);
}

#[test]
fn a_change_of_a_watched_user_is_told_and_of_another_is_not() {
    let mut world = World::new();
    world.open(0, "ana");
    world.watched(0, 1, &["bob"]);
    world.publish("cy", Status::Online);
    assert_eq!(world.frames(0), []);
    world.publish("bob", Status::Online);
    assert_eq!(world.told_statuses(0), [("bob".to_owned(), Status::Online)]);
}

#[test]
fn what_is_no_longer_watched_is_no_longer_told() {
    let mut world = World::new();
    world.open(0, "ana");
    world.watched(0, 1, &["bob", "cy"]);
    world.publish("bob", Status::Online);
    world.frame(0, ClientFrame::Unwatch { id: 2, users: names(&["bob", "nobody"]) });
    assert_eq!(world.frames(0), [ServerFrame::Ack { id: 2 }], "also not what waited");
    world.publish("bob", Status::Idle);
    assert_eq!(world.frames(0), []);
    assert_eq!(world.gateway.stats().watched_users, 1);
}

#[test]
fn a_partition_is_listened_to_exactly_while_somebody_there_is_watched() {
    let mut world = World::new();
    world.open(0, "ana");
    world.open(1, "bob");
    world.watched(0, 1, &["cy"]);
    world.watched(1, 1, &["cy", "dan"]);
    let subscribed = |world: &mut World| {
        let out = std::mem::take(&mut world.out);
        let subscription = |output: &Output| matches!(output, Output::Subscribe(_) | Output::Unsubscribe(_));
        out.into_iter().filter(subscription).collect::<Vec<_>>()
    };
    assert_eq!(subscribed(&mut world), [Output::Subscribe(PARTITION)]);
    world.close(0, Ending::Lost);
    assert_eq!(subscribed(&mut world), []);
    world.frame(1, ClientFrame::Unwatch { id: 2, users: names(&["cy", "dan"]) });
    assert_eq!(subscribed(&mut world), [Output::Unsubscribe(PARTITION)]);
}

#[test]
fn whoever_begins_to_watch_after_nobody_listened_is_not_told_the_old_value() {
    let mut world = World::new();
    world.publish("bob", Status::Online);
    world.open(0, "ana");
    world.watched(0, 1, &["bob"]);
    world.frame(0, ClientFrame::Unwatch { id: 2, users: names(&["bob"]) });
    let unheard = world.change("bob", Status::Idle);
    drop(unheard);
    let users = world.watched(0, 3, &["bob"]);
    assert_eq!(statuses(&users), [("bob", Status::Idle)]);
}

#[test]
fn a_query_answers_once_and_watches_nobody() {
    let mut world = World::new();
    world.publish("bob", Status::Dnd);
    world.open(0, "ana");
    world.frame(0, ClientFrame::Query { id: 5, users: names(&["cy", "bob"]) });
    let users = world.snapshot(0, 5).unwrap();
    assert_eq!(statuses(&users), [("cy", Status::Offline), ("bob", Status::Dnd)]);
    assert_eq!(world.gateway.stats().watches, 0);
    assert_eq!(world.gateway.stats().requests, 0);
}

#[test]
fn a_long_answer_comes_in_pages_and_only_the_last_says_complete() {
    for (ask, pages) in [(200, 1), (201, 2), (1_000, 5)] {
        for frame in
            [ClientFrame::Watch { id: 1, users: many(ask) }, ClientFrame::Query { id: 1, users: many(ask) }]
        {
            let mut world = World::new();
            world.open(0, "ana");
            world.frames(0);
            world.frame(0, frame);
            let frames = world.frames(0);
            let page = |frame: &ServerFrame| match frame {
                ServerFrame::Snapshot { id: 1, users, complete } => (users.len(), *complete),
                _ => panic!("only the answer is sent: {}", &serde_json::to_string(frame).unwrap()[..60]),
            };
            let got: Vec<_> = frames.iter().map(page).collect();
            assert_eq!(got.len(), pages);
            assert_eq!(got.iter().map(|(users, _)| users).sum::<usize>(), ask);
            assert!(got.iter().rev().skip(1).all(|(users, complete)| *users == 200 && !complete));
            assert!(got.last().unwrap().1);
        }
    }
}

#[test]
fn a_thousand_users_in_a_frame_are_taken_and_one_more_is_not() {
    let mut world = World::new();
    world.open(0, "ana");
    world.frame(0, ClientFrame::Watch { id: 1, users: many(1_000) });
    assert_eq!(world.snapshot(0, 1).unwrap().len(), 1_000);
    world.frame(0, ClientFrame::Watch { id: 2, users: many(1_001) });
    world.frame(0, ClientFrame::Query { id: 3, users: many(1_001) });
    world.frame(0, ClientFrame::Unwatch { id: 4, users: many(1_001) });
    world.frame(0, ClientFrame::Watch { id: 5, users: Vec::new() });
    let long = ErrorCode::BatchTooLong;
    let errors = [(Some(2), long), (Some(3), long), (Some(4), long), (Some(5), ErrorCode::EmptyBatch)];
    assert_eq!(world.errors(0), errors);
    assert_eq!(world.gateway.stats().watches, 1_000);
}

#[test]
fn a_session_watches_so_many_and_one_more_changes_nothing() {
    let mut world = World::with(|config| config.max_watches = 3);
    world.open(0, "ana");
    world.watched(0, 1, &["a", "b"]);
    world.frame(0, watch(2, &["c", "d"]));
    assert_eq!(world.errors(0), [(Some(2), ErrorCode::TooManyWatches)]);
    assert_eq!(world.gateway.stats().watches, 2);
    world.watched(0, 3, &["a", "b", "c"]);
    assert_eq!(world.gateway.stats().watches, 3, "those watched already do not count twice");
    world.frame(0, watch(4, &["d"]));
    assert_eq!(world.errors(0), [(Some(4), ErrorCode::TooManyWatches)]);
    world.frame(0, ClientFrame::Unwatch { id: 5, users: names(&["a"]) });
    world.frames(0);
    assert_eq!(world.watched(0, 6, &["d"]).len(), 1, "there is room again");
}

#[test]
fn a_session_has_so_many_requests_open_and_one_more_is_refused() {
    let mut world = World::new();
    world.owner.answers = false;
    world.open(0, "ana");
    for id in 1..=16 {
        world.frame(0, ClientFrame::Query { id, users: names(&["bob"]) });
    }
    assert_eq!(world.errors(0), []);
    world.frame(0, ClientFrame::Query { id: 17, users: names(&["bob"]) });
    let refused = world.frames(0);
    let Some(ServerFrame::Error { id: Some(17), code: ErrorCode::TooManyRequests, retry_after_ms, .. }) =
        refused.first()
    else {
        panic!("{refused:?}")
    };
    assert!(retry_after_ms.is_some_and(|ms| (250..=1_000).contains(&ms)), "{retry_after_ms:?}");
    world.advance_ms(1_100);
    let answered = world.frames(0);
    assert_eq!(answered.len(), 16, "each is answered with what is known");
    world.frame(0, ClientFrame::Query { id: 18, users: names(&["bob"]) });
    assert_eq!(world.errors(0), []);
}

#[test]
fn an_answer_that_was_not_read_still_counts_as_open() {
    let mut world = World::with(|config| config.max_requests_per_session = 2);
    world.open(0, "ana");
    world.frames(0);
    for id in 1..=3 {
        world.frame(0, ClientFrame::Query { id, users: names(&["bob"]) });
    }
    let frames = world.frames(0);
    let refused = |frame: &&ServerFrame| matches!(frame, ServerFrame::Error { id: Some(3), .. });
    assert_eq!(frames.iter().filter(refused).count(), 1, "{frames:?}");
}

#[test]
fn a_gateway_has_so_many_requests_open_and_backends_are_told() {
    let mut world = World::with(|config| config.max_requests = 2);
    world.owner.answers = false;
    for ticket in 1..=2 {
        world.handle(Input::Explain { ticket: Ticket(ticket), user: user("bob") });
    }
    world.out.clear();
    world.handle(Input::Explain { ticket: Ticket(3), user: user("bob") });
    let refused = Output::Explained(Ticket(3), Err(ErrorCode::TooManyRequests));
    assert_eq!(world.out, [refused]);
    world.open(0, "ana");
    world.frame(0, watch(1, &["bob"]));
    assert_eq!(world.errors(0), [(Some(1), ErrorCode::TooManyRequests)]);
}

#[test]
fn whom_one_may_not_see_looks_exactly_as_one_who_was_never_there() {
    let mut world = World::new();
    world.publish("secret", Status::Online);
    let nobody = Viewer { user: user("ana"), grants: Grants::Nobody };
    let ask = |world: &mut World, viewer: Viewer| {
        let opening = world.opening(viewer, Some(Activity::Active));
        world.open_as(0, opening);
        world.frames(0);
        let mut texts = Vec::new();
        for frame in [watch(1, &["secret"]), ClientFrame::Query { id: 2, users: names(&["secret"]) }] {
            world.frame(0, frame);
            texts.extend(std::iter::from_fn(|| world.raw(0)));
        }
        texts
    };
    let mut denied = ask(&mut world, nobody);
    for status in [Status::Idle, Status::Offline] {
        world.publish("secret", status);
        world.advance(secs(1));
        denied.extend(std::iter::from_fn(|| world.raw(0)));
    }
    let mut other = World::new();
    other.publish("other", Status::Online);
    let never = ask(&mut other, everybody("ana"));
    assert_eq!(denied, never, "not a byte differs, and no change is told");
}

#[test]
fn everybody_may_see_themselves_and_whom_they_are_granted() {
    let mut world = World::new();
    for name in ["ana", "bob", "cy"] {
        world.publish(name, Status::Online);
    }
    let opening = world.opening(some("ana", &["bob"]), Some(Activity::Active));
    world.open_as(0, opening);
    let users = world.watched(0, 1, &["ana", "bob", "cy"]);
    let expected = [("ana", Status::Online), ("bob", Status::Online), ("cy", Status::Offline)];
    assert_eq!(statuses(&users), expected);
}

#[test]
fn narrowed_grants_take_back_at_once_what_was_seen() {
    let mut world = World::new();
    for name in ["bob", "cy"] {
        world.publish(name, Status::Online);
    }
    world.open(1, "other");
    world.watched(1, 1, &["bob", "cy"]);
    world.open(0, "ana");
    world.watched(0, 1, &["bob", "cy"]);
    renew(&mut world, 0, some("ana", &["bob"]));
    world.advance(secs(1));
    let told = world.told_statuses(0);
    assert_eq!(told.last(), Some(&("cy".to_owned(), Status::Offline)), "as one never seen: {told:?}");
    assert!(!told.contains(&("bob".to_owned(), Status::Unknown)), "who is still seen does not flicker");
    world.publish("cy", Status::Dnd);
    world.publish("bob", Status::Dnd);
    world.advance(secs(1));
    assert_eq!(world.told_statuses(0), [("bob".to_owned(), Status::Dnd)]);
}

#[test]
fn widened_grants_show_the_truth_without_watching_again() {
    let mut world = World::new();
    world.publish("bob", Status::Online);
    world.publish("cy", Status::Online);
    let opening = world.opening(some("ana", &["cy"]), Some(Activity::Active));
    world.open_as(0, opening);
    let users = world.watched(0, 1, &["bob", "cy"]);
    assert_eq!(statuses(&users), [("bob", Status::Offline), ("cy", Status::Online)]);
    renew(&mut world, 0, everybody("ana"));
    world.advance(secs(1));
    let told = world.told_statuses(0);
    assert_eq!(told.last(), Some(&("bob".to_owned(), Status::Online)), "{told:?}");
    assert_eq!(world.gateway.stats().watches, 2);
}

#[test]
fn the_same_grants_anew_tell_nothing() {
    let mut world = World::new();
    world.publish("bob", Status::Online);
    world.open(0, "ana");
    world.watched(0, 1, &["bob"]);
    renew(&mut world, 0, everybody("ana"));
    assert_eq!(world.frames(0), []);
}

#[test]
fn a_slot_used_again_is_not_given_the_answer_to_another() {
    let mut world = World::new();
    world.owner.answers = false;
    world.open(0, "ana");
    world.frame(0, watch(1, &["bob"]));
    world.frame(0, ClientFrame::Query { id: 2, users: names(&["bob"]) });
    let pulls = world.pulls();
    world.close(0, Ending::Lost);
    world.open(0, "eve");
    world.frames(0);
    for pull in pulls {
        for snapshot in world.owner.snapshots(&pull) {
            world.handle(Input::Message(herenow_protocol::message::ToGateway::Snapshot(snapshot)));
        }
    }
    world.advance(secs(2));
    assert_eq!(world.frames(0), []);
}

#[test]
fn a_full_gateway_frees_a_place_only_when_the_session_is_over() {
    let mut world = World::with(|config| config.max_sessions = 1);
    world.open(0, "ana");
    world.frame(0, ClientFrame::Bye {});
    world.out.clear();
    world.open(1, "bob");
    assert!(!world.closes().contains(&(1, CloseCode::GatewayFull)), "ana's session is over");
}
