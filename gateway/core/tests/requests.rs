//! Claims, questions of backends, and explanations: answered by owners, or honestly not.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod support;

use std::time::Duration;

use herenow_gateway_core::{Input, Output, Slot, Ticket};
use herenow_protocol::api::Explanation;
use herenow_protocol::code::ErrorCode;
use herenow_protocol::frame::{ClientFrame, ManualStatus, ServerFrame};
use herenow_protocol::message::{
    ApiStatus, ClaimCommand, ClaimDone, Ending, ListRequest, Pull, ToGateway, Up,
};
use herenow_protocol::{Epoch, Presence, Status};
use support::{ONE, PARTITION, TWO, World, everybody, secs, some, user};

fn dnd(id: u64) -> ClientFrame {
    ClientFrame::Status { id, status: ManualStatus::Dnd, text: None, emoji: None, expires_at: None }
}

fn api() -> ClaimCommand {
    ClaimCommand::Api { status: ApiStatus::Dnd, text: None, ttl_ms: None, session: None }
}

fn query(world: &mut World, ticket: u64, users: &[&str]) {
    let users = users.iter().map(|name| user(name)).collect();
    let viewer = everybody("backend");
    world.handle(Input::Query { ticket: Ticket(ticket), viewer, users });
}

fn answered(world: &mut World) -> Vec<(u64, Vec<Presence>)> {
    let answered = std::mem::take(&mut world.out).into_iter().filter_map(|output| {
        if let Output::Answered(ticket, users) = output { Some((ticket.0, users)) } else { None }
    });
    answered.collect()
}

fn done(world: &mut World) -> Vec<(u64, Result<u64, ErrorCode>)> {
    let done = std::mem::take(&mut world.out).into_iter().filter_map(|output| {
        let Output::ClaimDone(ticket, outcome) = output else { return None };
        Some((ticket.0, outcome.map(|(version, _)| version.n)))
    });
    done.collect()
}

#[test]
fn a_claim_is_acknowledged_when_the_owner_has_set_it() {
    let mut world = World::new();
    world.owner.answers = false;
    world.open(0, "ana");
    world.frames(0);
    world.frame(0, dnd(3));
    let claim = world.claims().pop().unwrap();
    assert_eq!(claim.key, world.key("ana"), "a session claims for its own user");
    assert_eq!(world.frames(0), []);
    let answer = world.owner.claim_done(&claim);
    world.handle(Input::Message(answer));
    assert_eq!(world.frames(0), [ServerFrame::Ack { id: 3 }]);
}

#[test]
fn a_claim_without_an_answer_is_sent_again_and_then_unavailable() {
    let mut world = World::new();
    world.owner.answers = false;
    world.open(0, "ana");
    world.frames(0);
    world.out.clear();
    world.frame(0, dnd(3));
    world.advance_ms(999);
    let claims = world.claims();
    assert_eq!(claims.len(), 3, "at once, after 400 and 800 ms");
    assert!(claims.iter().all(|claim| claim.request == claims[0].request));
    assert_eq!(world.frames(0), []);
    world.advance_ms(1);
    assert_eq!(world.errors(0), [(Some(3), ErrorCode::Unavailable)]);
    let late = world.owner.claim_done(&claims[0]);
    world.handle(Input::Message(late));
    assert_eq!(world.frames(0), [], "an answer that comes later is nobody's");
}

#[test]
fn a_claim_that_the_owner_refuses_is_an_error() {
    let mut world = World::new();
    world.owner.answers = false;
    world.open(0, "ana");
    world.frame(0, dnd(3));
    let request = world.claims().pop().unwrap().request;
    let outcome = Err(ErrorCode::Unavailable);
    let refused = ClaimDone { request, epoch: Epoch::NONE, outcome };
    world.handle(Input::Message(ToGateway::ClaimDone(Box::new(refused))));
    assert_eq!(world.errors(0), [(Some(3), ErrorCode::Unavailable)]);
}

#[test]
fn an_acknowledgement_of_an_owner_that_is_over_is_not_believed() {
    let mut world = World::new();
    world.owner.answers = false;
    world.open(0, "ana");
    world.frames(0);
    world.frame(0, dnd(3));
    let claim = world.claims().pop().unwrap();
    let old = world.owner.claim_done(&claim);
    world.owner.epoch = TWO;
    world.beat();
    world.handle(Input::Message(old));
    assert_eq!(world.frames(0), [], "the new owner has yet to hear of it");
    world.advance_ms(400);
    let again = world.claims();
    assert_eq!(again.len(), 1, "it is asked");
    let new = world.owner.claim_done(&again[0]);
    world.handle(Input::Message(new));
    assert_eq!(world.frames(0), [ServerFrame::Ack { id: 3 }]);
}

#[test]
fn a_claim_whose_values_are_out_of_range_is_not_sent() {
    let mut world = World::new();
    world.open(0, "ana");
    let claim = |text: usize, emoji: usize, expires_at| ClientFrame::Status {
        id: 1,
        status: ManualStatus::Dnd,
        text: Some("x".repeat(text)),
        emoji: Some("y".repeat(emoji)),
        expires_at,
    };
    let past = Some(world.wall(0));
    world.out.clear();
    for frame in [claim(257, 1, None), claim(1, 65, None), claim(1, 1, past)] {
        world.frame(0, frame);
        assert_eq!(world.errors(0), [(Some(1), ErrorCode::InvalidValue)]);
    }
    assert_eq!(world.claims(), []);
    let soon = Some(world.wall(1));
    world.frame(0, claim(256, 64, soon));
    assert_eq!(world.claims().len(), 1);
}

#[test]
fn the_answer_to_a_claim_of_a_session_that_went_is_nobodys() {
    let mut world = World::new();
    world.owner.answers = false;
    world.open(0, "ana");
    world.frame(0, dnd(3));
    let claim = world.claims().pop().unwrap();
    world.close(0, Ending::Lost);
    world.open(0, "eve");
    world.frames(0);
    let answer = world.owner.claim_done(&claim);
    world.handle(Input::Message(answer));
    assert_eq!(world.frames(0), []);
}

#[test]
fn a_backend_is_told_the_version_that_reads_will_show() {
    let mut world = World::new();
    world.open(0, "ana");
    world.watched(0, 1, &["bob"]);
    world.handle(Input::Claim { ticket: Ticket(8), user: user("bob"), command: api() });
    assert_eq!(done(&mut world), [(8, Ok(1))]);
    let told = world.told(0);
    assert_eq!((told[0].status, told[0].version.n), (Status::Dnd, 1), "and watchers here see it at once");
}

#[test]
fn a_backend_whose_claim_nobody_answers_is_told_so() {
    let mut world = World::new();
    world.owner.answers = false;
    world.handle(Input::Claim { ticket: Ticket(8), user: user("bob"), command: api() });
    world.advance_ms(999);
    assert_eq!(done(&mut world), []);
    world.advance_ms(1);
    assert_eq!(done(&mut world), [(8, Err(ErrorCode::Unavailable))]);
    assert_eq!(world.gateway.stats().requests, 0);
}

#[test]
fn so_many_claims_are_open_and_one_more_is_refused() {
    let mut world = World::with(|config| config.max_requests = 2);
    world.owner.answers = false;
    for ticket in 1..=3 {
        world.handle(Input::Claim { ticket: Ticket(ticket), user: user("bob"), command: api() });
    }
    assert_eq!(done(&mut world), [(3, Err(ErrorCode::TooManyRequests))]);
}

#[test]
fn a_backend_is_answered_by_the_owner_in_the_order_asked() {
    let mut world = World::new();
    world.publish("bob", Status::Online);
    query(&mut world, 4, &["cy", "bob", "cy"]);
    let answers = answered(&mut world);
    let statuses: Vec<_> = answers[0].1.iter().map(|p| (p.user_id.to_string(), p.status)).collect();
    let (bob, cy) = (("bob".to_owned(), Status::Online), ("cy".to_owned(), Status::Offline));
    assert_eq!(statuses, [cy.clone(), bob, cy]);
}

#[test]
fn only_the_owners_own_answer_answers_a_backend() {
    let mut world = World::new();
    world.publish("bob", Status::Online);
    world.open(0, "ana");
    world.watched(0, 1, &["bob"]);
    world.owner.answers = false;
    world.out.clear();
    query(&mut world, 4, &["bob"]);
    let pull = world.pulls().pop().unwrap();
    world.publish("bob", Status::Idle);
    world.beat();
    assert_eq!(answered(&mut world), [], "neither what is known nor what is published is an answer");
    let unseen = world.change("bob", Status::Dnd);
    drop(unseen);
    for snapshot in world.owner.snapshots(&pull) {
        world.handle(Input::Message(ToGateway::Snapshot(snapshot)));
    }
    let answers = answered(&mut world);
    assert_eq!(answers[0].1[0].status, Status::Dnd);
}

#[test]
fn a_backend_is_asked_for_again_and_at_last_answered_with_what_is_known() {
    let mut world = World::new();
    world.publish("bob", Status::Online);
    world.open(0, "ana");
    world.watched(0, 1, &["bob"]);
    world.owner.answers = false;
    world.out.clear();
    query(&mut world, 4, &["bob", "cy"]);
    world.advance_ms(999);
    let out = std::mem::take(&mut world.out);
    let pulls = out.iter().filter(|o| matches!(o, Output::Up(Up::Pull(_)))).count();
    assert_eq!(pulls, 3, "at once, after 400 and 800 ms");
    assert!(!out.iter().any(|o| matches!(o, Output::Answered(..))));
    world.advance_ms(1);
    let answers = answered(&mut world);
    let statuses: Vec<_> = answers[0].1.iter().map(|p| p.status).collect();
    assert_eq!(statuses, [Status::Online, Status::Unknown], "never a guessed offline");
    assert_eq!(world.gateway.stats().request_timeouts, 1);
    assert_eq!(world.gateway.stats().requests, 0);
}

#[test]
fn an_owner_that_has_not_settled_is_asked_again_for_whom_it_left_out() {
    let mut world = World::new();
    world.owner.settled = false;
    world.publish("bob", Status::Online);
    query(&mut world, 4, &["bob", "cy"]);
    assert_eq!(answered(&mut world), []);
    world.advance_ms(300);
    world.owner.settled = true;
    world.beat();
    let answers = answered(&mut world);
    let statuses: Vec<_> = answers[0].1.iter().map(|p| p.status).collect();
    assert_eq!(statuses, [Status::Online, Status::Offline]);
}

#[test]
fn an_owner_that_says_that_it_has_not_settled_is_asked_again_only_when_it_has() {
    let mut world = World::new();
    world.owner.settled = false;
    world.beat();
    query(&mut world, 4, &["bob", "cy"]);
    assert_eq!(answered(&mut world), []);
    world.out.clear();
    world.advance_ms(800);
    assert_eq!(world.pulls(), [], "nothing is to be had of it");
    world.owner.settled = true;
    world.beat();
    let statuses: Vec<_> = answered(&mut world)[0].1.iter().map(|p| p.status).collect();
    assert_eq!(statuses, [Status::Offline, Status::Offline]);
}

#[test]
fn owners_that_answer_slowly_are_asked_again_later() {
    let mut world = World::with(|config| config.pull_timeout = Duration::from_millis(100));
    world.owner.answers = false;
    let asked_in_a_second = |world: &mut World| {
        world.out.clear();
        query(world, 1, &["bob"]);
        world.advance_ms(1_001);
        world.pulls().len()
    };
    let quick = asked_in_a_second(&mut world);
    for _ in 0..50 {
        query(&mut world, 2, &["bob"]);
        let pull = world.pulls().pop().unwrap();
        world.advance_ms(300);
        for snapshot in world.owner.snapshots(&pull) {
            world.handle(Input::Message(ToGateway::Snapshot(snapshot)));
        }
        world.out.clear();
    }
    let slow = asked_in_a_second(&mut world);
    assert!((8..=10).contains(&quick) && (3..=4).contains(&slow), "{quick}, then {slow}");
}

#[test]
fn what_an_owner_answers_that_doubts_it_is_dated_but_for_who_is_active_here() {
    let mut world = World::new();
    for name in ["bob", "cy", "dan"] {
        world.publish(name, if name == "dan" { Status::Offline } else { Status::Online });
    }
    world.open(0, "cy");
    let sure_at = Some(world.wall(0));
    for settled in [true, false] {
        (world.owner.settled, world.owner.sure_at) = (settled, sure_at);
        world.out.clear();
        query(&mut world, 1, &["bob", "cy", "dan"]);
        let answers = answered(&mut world);
        let told: Vec<_> = answers[0].1.iter().map(|p| (p.status, p.as_of)).collect();
        let expected = [(Status::Online, sure_at), (Status::Online, None), (Status::Offline, sure_at)];
        assert_eq!(told, expected, "settled: {settled}");
    }
    (world.owner.settled, world.owner.sure_at) = (false, None);
    query(&mut world, 2, &["bob"]);
    assert_eq!(answered(&mut world)[0].1[0].as_of, None, "one that has just begun is sure of who is there");
}

#[test]
fn what_was_answered_before_the_process_stood_still_is_no_answer_after_it() {
    let mut world = World::new();
    world.publish("bob", Status::Online);
    world.owner.answers = false;
    world.out.clear();
    query(&mut world, 1, &["bob"]);
    let Some(Output::Up(Up::Pull(pull))) = world.out.iter().find(|o| matches!(o, Output::Up(Up::Pull(_))))
    else {
        panic!("{:?}", world.out)
    };
    let old = world.owner.snapshots(&pull.clone()).remove(0);
    world.ms += 20_000;
    world.out.clear();
    world.handle(Input::Message(ToGateway::Snapshot(old)));
    world.advance_ms(1);
    assert_eq!(answered(&mut world)[0].1[0].status, Status::Unknown);
}

#[test]
fn a_backend_too_sees_only_whom_it_may() {
    let mut world = World::new();
    world.publish("bob", Status::Online);
    let viewer = some("backend", &[]);
    world.handle(Input::Query { ticket: Ticket(1), viewer, users: vec![user("bob")] });
    let answers = answered(&mut world);
    assert_eq!((answers[0].1[0].status, answers[0].1[0].last_updated), (Status::Offline, None));
}

#[test]
fn where_too_many_ask_a_backend_is_answered_at_once_with_what_is_known() {
    let mut world = World::with(|config| config.max_requests = 1);
    world.owner.answers = false;
    query(&mut world, 1, &["bob"]);
    query(&mut world, 2, &["bob"]);
    let answers = answered(&mut world);
    assert_eq!(answers.len(), 1);
    assert_eq!((answers[0].0, answers[0].1[0].status), (2, Status::Unknown));
}

#[test]
fn an_explanation_comes_back_or_is_unavailable() {
    let mut world = World::new();
    world.owner.answers = false;
    let explanation = Explanation {
        partition: PARTITION,
        owner: "owner".to_owned(),
        epoch: ONE.to_string(),
        settled: true,
        rule: "2".to_owned(),
        sessions: Vec::new(),
        claims: Vec::new(),
        timers: Vec::new(),
    };
    let mut ask = |ticket, json: Option<String>| {
        world.out.clear();
        world.handle(Input::Explain { ticket: Ticket(ticket), user: user("bob") });
        let ups = world.ups();
        let [Up::Explain(request)] = ups.as_slice() else { panic!("{ups:?}") };
        match json {
            Some(json) => {
                world.handle(Input::Message(ToGateway::Explained { request: request.request, json }));
            }
            None => world.advance(secs(1)),
        }
        world.out.retain(|output| matches!(output, Output::Explained(..)));
        world.out.pop()
    };
    let json = serde_json::to_string(&explanation).unwrap();
    assert_eq!(ask(1, Some(json)), Some(Output::Explained(Ticket(1), Ok(Box::new(explanation)))));
    assert_eq!(ask(2, Some("{".to_owned())), Some(Output::Explained(Ticket(2), Err(ErrorCode::Unavailable))));
    assert_eq!(ask(3, None), Some(Output::Explained(Ticket(3), Err(ErrorCode::Unavailable))));
}

#[test]
fn a_request_for_a_page_is_handed_to_the_owner_as_it_came() {
    let mut world = World::new();
    let list = ListRequest { partition: PARTITION, reply: "inbox.1".to_owned(), after: None };
    world.out.clear();
    world.handle(Input::List(list.clone()));
    assert_eq!(world.out, [Output::Up(Up::List(list))]);
}

#[test]
fn answers_to_questions_that_nobody_asked_do_nothing() {
    let mut world = World::new();
    let outcome = Err(ErrorCode::Unavailable);
    let done = ClaimDone { request: 99, epoch: ONE, outcome };
    world.handle(Input::Message(ToGateway::ClaimDone(Box::new(done))));
    world.handle(Input::Message(ToGateway::Explained { request: 99, json: "{}".to_owned() }));
    assert_eq!(world.out, []);
    assert_eq!(world.raw(Slot(0).0), None);
}

#[test]
fn an_owner_that_has_not_settled_is_not_asked_more_and_more_often() {
    let mut world = World::with(|config| config.pull_timeout = Duration::from_millis(50));
    world.beat();
    // What it says by its beats has not come.
    (world.owner.settled, world.owner.answers) = (false, false);
    world.owner.beats = false;
    world.out.clear();
    query(&mut world, 4, &["bob"]);
    let mut asked = 0;
    for _ in 0..999 {
        let pulls = world.pulls();
        asked += pulls.len();
        world.advance_ms(1);
        for snapshot in pulls.iter().flat_map(|pull| world.owner.snapshots(pull)).collect::<Vec<_>>() {
            world.handle(Input::Message(ToGateway::Snapshot(snapshot)));
        }
    }
    assert!((16..=20).contains(&asked), "once, and again each 50 to 62 ms: {asked}");
}

#[test]
fn an_answer_that_waited_for_others_is_not_older_than_what_its_asker_was_told_meanwhile() {
    let mut world = World::new();
    world.publish("ana", Status::Idle);
    world.open(0, "bob");
    world.watched(0, 1, &["ana"]);
    (world.owner.settled, world.owner.answers) = (false, false);
    world.advance(secs(3));
    world.pulls();
    let users = vec!["ana".to_owned(), "eve".to_owned()];
    world.frame(0, ClientFrame::Query { id: 2, users });
    let pull = world.pulls().pop().unwrap();
    assert!(pull.users.contains(&world.key("ana")), "who is idle, as an owner in doubt says, is asked for");
    world.answer(&pull);
    world.publish("ana", Status::Online);
    assert!(world.told(0).iter().any(|ana| ana.version.n == 2), "told at once");
    world.owner.settled = true;
    let pull = Pull { users: vec![world.key("eve")], ..pull };
    world.answer(&pull);
    let answer = world.snapshot(0, 2).unwrap();
    assert_eq!((answer[0].version.n, answer[0].status), (2, Status::Online));
}
