//! The client as a whole, against a scripted gateway.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "helpers of tests may panic")]

use std::time::Duration;

use herenow_client_core::{Client, Closure, Config, ConnectionState, Failure, Input, Output, Ticket};
use herenow_protocol::frame::{ClientFrame, ManualStatus, ServerFrame, Welcome, encode};
use herenow_protocol::{Activity, Epoch, MonoTime, Presence, Status, UserId, Version, WallTime};

struct World {
    client: Client,
    now: u64,
    out: Vec<Output>,
}

fn user(text: &str) -> UserId {
    UserId::new(text).unwrap()
}

fn record(name: &str, status: Status, n: u64) -> Presence {
    Presence {
        user_id: user(name),
        status,
        last_updated: None,
        version: Version { epoch: Epoch { counter: 1, nonce: 1 }, n },
        text: None,
        emoji: None,
        reachable: false,
        devices: Vec::new(),
        invisible: false,
        as_of: None,
    }
}

fn welcome() -> ServerFrame {
    ServerFrame::Welcome(Welcome {
        session: "g-0/1".to_owned(),
        user_id: user("me"),
        heartbeat_interval_ms: 20_000,
        heartbeat_timeout_ms: 30_000,
        idle_after_ms: 300_000,
        fresh_for_ms: 20_000,
        server_time: WallTime::from_millis(1_000_000),
    })
}

impl World {
    fn new(config: Config) -> Self {
        let client = Client::new(config, 7, MonoTime::default());
        let mut world = Self { client, now: 0, out: Vec::new() };
        world.client.handle_timeout(MonoTime::default(), &mut world.out);
        world
    }

    /// A client with an open session.
    fn up(config: Config) -> Self {
        let mut world = Self::new(config);
        world.input(Input::Token("t1".to_owned()));
        world.frame(&welcome());
        world.out.clear();
        world
    }

    fn input(&mut self, input: Input) {
        self.client.handle(input, MonoTime::from_millis(self.now), &mut self.out);
    }

    fn frame(&mut self, frame: &ServerFrame) {
        self.input(Input::Text(encode(frame)));
    }

    /// Lets time pass, with every timeout at its moment.
    fn pass(&mut self, ms: u64) {
        let end = self.now + ms;
        let mut turns = 0;
        while let Some(at) = self.client.poll_timeout().map(MonoTime::as_millis).filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.client.handle_timeout(MonoTime::from_millis(self.now), &mut self.out);
            turns += 1;
            assert!(turns < 10_000, "a timeout that is handled is no longer due");
        }
        self.now = end;
    }

    fn took(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.out)
    }

    fn sent(&mut self) -> Vec<ClientFrame> {
        let frames = |output| match output {
            Output::Send(text) => Some(ClientFrame::parse(&text).unwrap()),
            _ => None,
        };
        self.took().into_iter().filter_map(frames).collect()
    }

    fn watch(&mut self, users: &[&str]) {
        self.input(Input::Watch(users.iter().map(|name| user(name)).collect()));
    }

    fn lose(&mut self) {
        self.input(Input::Closed(Closure::Lost(Failure::lost())));
    }

    /// The wait that the last loss began.
    fn retry_in(&self) -> Duration {
        match self.client.state() {
            ConnectionState::Waiting { retry_in, .. } => *retry_in,
            other => panic!("{other:?}"),
        }
    }

    fn stopped(&self) -> Option<String> {
        match self.client.state() {
            ConnectionState::Stopped(cause) => cause.as_ref().map(|failure| failure.code.to_string()),
            other => panic!("{other:?}"),
        }
    }
}

fn watch_id(frames: &[ClientFrame]) -> u64 {
    match frames {
        [ClientFrame::Watch { id, .. }] => *id,
        other => panic!("{other:?}"),
    }
}

#[test]
fn it_gets_a_token_then_connects_then_names_its_watch_list() {
    let mut world = World::new(Config { activity: Some(Activity::Active), ..Config::default() });
    assert_eq!(world.took(), [Output::NeedToken]);
    world.watch(&["ana", "ben"]);
    world.input(Input::Token("t1".to_owned()));
    let connect = Output::Connect { token: "t1".to_owned(), activity: Some(Activity::Active) };
    assert_eq!(world.took(), [connect]);
    world.frame(&welcome());
    let out = world.took();
    let state = ConnectionState::Connected { session: "g-0/1".into(), user: user("me") };
    assert_eq!(out[0], Output::State(state));
    assert_eq!(out[1], Output::Send(r#"{"type":"watch","id":1,"users":["ana","ben"]}"#.to_owned()));
    assert_eq!(out.len(), 2);
}

#[test]
fn heartbeats_come_every_interval_and_ask_when_nothing_was_heard() {
    let mut world = World::up(Config::default());
    world.pass(19_999);
    let first = world.sent();
    assert_eq!(
        first,
        [ClientFrame::Heartbeat { activity: None, id: None }],
        "somewhere in the first interval"
    );
    world.pass(1);
    assert!(
        matches!(world.sent()[..], [ClientFrame::Heartbeat { id: Some(_), .. }]),
        "asks after a silent interval"
    );
    world.pass(9_999);
    assert!(world.sent().is_empty());
    world.pass(1);
    let out = world.took();
    assert_eq!(out[0], Output::Close, "dead after the timeout");
    assert!(
        matches!(&out[1], Output::State(ConnectionState::Waiting { cause, .. }) if &*cause.code == "heartbeat_timeout")
    );
}

#[test]
fn an_answered_connection_lives_for_ever() {
    let mut world = World::up(Config::default());
    for _ in 0..100 {
        world.pass(20_000);
        for frame in world.sent() {
            if let ClientFrame::Heartbeat { id: Some(id), .. } = frame {
                world.frame(&ServerFrame::Ack { id });
            }
        }
        assert!(matches!(world.client.state(), ConnectionState::Connected { .. }));
    }
}

#[test]
fn after_a_loss_it_comes_back_with_growing_jittered_waits_and_watches_again() {
    let mut world = World::up(Config { connect_timeout: Duration::from_secs(600), ..Config::default() });
    world.watch(&["ana"]);
    let id = watch_id(&world.sent());
    world.frame(&ServerFrame::Snapshot { id, users: vec![record("ana", Status::Online, 1)], complete: true });
    assert_eq!(world.took(), [Output::Changed(record("ana", Status::Online, 1))]);
    world.lose();
    for attempt in 0..12_u32 {
        let most = Duration::from_millis(30_000.min(500 << attempt));
        assert!(world.retry_in() < most, "attempt {attempt}: {:?}", world.retry_in());
        let wait = world.retry_in().as_millis();
        world.took();
        world.pass(u64::try_from(wait).unwrap());
        assert!(world.took().iter().any(|output| matches!(output, Output::Connect { .. })));
        world.lose();
    }
    world.pass(30_000);
    assert_eq!(world.client.presence(&user("ana")).unwrap().status, Status::Unknown);
    world.took();
    world.frame(&welcome());
    let id = watch_id(&world.sent());
    world.frame(&ServerFrame::Snapshot { id, users: vec![record("ana", Status::Online, 1)], complete: true });
    assert_eq!(world.took(), [Output::Changed(record("ana", Status::Online, 1))]);
}

#[test]
fn a_connection_that_does_not_last_does_not_begin_the_waits_anew() {
    let mut world = World::up(Config::default());
    let mut longest = Duration::ZERO;
    for _ in 0..40 {
        world.lose();
        longest = longest.max(world.retry_in());
        world.pass(30_000);
        world.frame(&welcome());
    }
    assert!(longest > Duration::from_secs(5), "{longest:?}");
    for _ in 0..7 {
        world.pass(5_000);
        world.input(Input::Heard);
    }
    world.lose();
    assert!(world.retry_in() < Duration::from_millis(500));
}

#[test]
fn what_decays_is_told_once_while_it_is_cut_off() {
    let mut world = World::up(Config::default());
    world.watch(&["ana"]);
    world.frame(&ServerFrame::Presence { users: vec![record("ana", Status::Online, 1)] });
    world.lose();
    world.took();
    world.pass(100_000);
    let changes: Vec<Presence> = world
        .took()
        .into_iter()
        .filter_map(|output| if let Output::Changed(presence) = output { Some(presence) } else { None })
        .collect();
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].status, Status::Unknown);
    assert_eq!(changes[0].as_of, Some(WallTime::from_millis(1_000_000)));
}

#[test]
fn a_long_watch_list_is_told_in_pages_with_few_under_way() {
    let config = Config { max_in_flight: 2, ..Config::default() };
    let mut world = World::up(config);
    let names: Vec<UserId> = (0..3_500).map(|i| user(&format!("u{i:04}"))).collect();
    world.input(Input::Watch(names));
    let mut seen = 0;
    let mut frames = world.sent();
    assert_eq!(frames.len(), 2);
    while let Some(ClientFrame::Watch { id, users }) = frames.pop() {
        assert!(users.len() <= 1_000);
        seen += users.len();
        world.frame(&ServerFrame::Snapshot { id, users: Vec::new(), complete: true });
        frames.extend(world.sent());
    }
    assert_eq!(seen, 3_500);
}

#[test]
fn more_than_the_most_watches_are_refused_whole() {
    let mut world = World::up(Config { max_watches: 2, ..Config::default() });
    world.watch(&["a", "b"]);
    world.took();
    world.watch(&["a", "c"]);
    assert!(matches!(&world.took()[..], [Output::WatchRefused(users, failure)]
        if *users == [user("c")] && &*failure.code == "too_many_watches"));
}

#[test]
fn a_refused_watch_is_tried_again_when_it_may_pass_and_told_when_not() {
    let mut world = World::up(Config::default());
    world.watch(&["ana"]);
    let id = watch_id(&world.sent());
    let mut error =
        ServerFrame::error(Some(id), herenow_protocol::code::ErrorCode::Unavailable, "m".to_owned());
    if let ServerFrame::Error { retry_after_ms, .. } = &mut error {
        *retry_after_ms = Some(1_000);
    }
    world.frame(&error);
    assert!(world.took().is_empty());
    world.pass(999);
    assert!(world.took().is_empty(), "not before retryAfterMs");
    world.pass(501);
    let id = watch_id(&world.sent());
    world.frame(&ServerFrame::error(
        Some(id),
        herenow_protocol::code::ErrorCode::TooManyWatches,
        "m".to_owned(),
    ));
    assert!(matches!(&world.took()[..], [Output::WatchRefused(users, _)] if *users == [user("ana")]));
    assert!(!world.client.map().is_watched(&user("ana")));
}

#[test]
fn requests_are_answered_fail_in_time_and_survive_a_reconnect() {
    let mut world = World::up(Config::default());
    world.input(Input::Query { ticket: Ticket(1), users: vec![user("ana")] });
    let set = Input::SetStatus {
        ticket: Ticket(2),
        status: ManualStatus::Dnd,
        text: None,
        emoji: None,
        expires_at: None,
    };
    world.input(set);
    assert!(matches!(
        world.sent()[..],
        [ClientFrame::Query { id: 1, .. }, ClientFrame::Status { id: 2, .. }]
    ));
    world.lose();
    world.pass(500);
    world.took();
    world.frame(&welcome());
    assert!(matches!(
        world.sent()[..],
        [ClientFrame::Query { id: 3, .. }, ClientFrame::Status { id: 4, .. }]
    ));
    let users = vec![record("ana", Status::Idle, 4)];
    world.frame(&ServerFrame::Snapshot { id: 3, users: users.clone(), complete: true });
    assert_eq!(world.took(), [Output::Answered(Ticket(1), users)]);
    world.pass(9_500);
    let out = world.took();
    assert!(
        out.iter().any(
            |output| matches!(output, Output::Failed(Ticket(2), failure) if &*failure.code == "timeout")
        )
    );
    world.frame(&ServerFrame::Ack { id: 4 });
    assert!(world.took().is_empty(), "a late answer is none");
}

#[test]
fn a_long_query_is_asked_page_by_page() {
    let mut world = World::up(Config::default());
    let users = (0..1_500).map(|i| user(&format!("u{i}"))).collect();
    world.input(Input::Query { ticket: Ticket(1), users });
    let ClientFrame::Query { id, users } = world.sent().remove(0) else { panic!() };
    assert_eq!(users.len(), 1_000);
    let first = record("u0", Status::Online, 1);
    world.frame(&ServerFrame::Snapshot { id, users: vec![first.clone()], complete: true });
    let ClientFrame::Query { id, users } = world.sent().remove(0) else { panic!() };
    assert_eq!(users.len(), 500);
    let last = record("u1499", Status::Online, 1);
    world.frame(&ServerFrame::Snapshot { id, users: vec![last.clone()], complete: true });
    assert_eq!(world.took(), [Output::Answered(Ticket(1), vec![first, last])]);
}

#[test]
fn one_request_too_many_fails_at_once() {
    let mut world = World::new(Config { max_requests: 2, ..Config::default() });
    world.took();
    for ticket in 1..=3 {
        world.input(Input::Query { ticket: Ticket(ticket), users: vec![user("a")] });
    }
    assert!(
        matches!(&world.took()[..], [Output::Failed(Ticket(3), failure)] if &*failure.code == "too_many_requests")
    );
}

#[test]
fn activity_is_told_at_once_and_flapping_costs_one_frame_a_window() {
    let mut world = World::up(Config { activity: Some(Activity::Active), ..Config::default() });
    world.input(Input::SetActivity(Activity::Idle));
    assert_eq!(world.sent(), [ClientFrame::Heartbeat { activity: Some(Activity::Idle), id: None }]);
    for _ in 0..50 {
        world.input(Input::SetActivity(Activity::Active));
        world.input(Input::SetActivity(Activity::Idle));
        world.input(Input::SetActivity(Activity::Background));
    }
    assert!(world.sent().is_empty());
    world.pass(250);
    assert_eq!(world.sent(), [ClientFrame::Heartbeat { activity: Some(Activity::Background), id: None }]);
}

#[test]
fn a_change_of_activity_during_the_handshake_is_told_after_it() {
    let mut world = World::new(Config { activity: Some(Activity::Active), ..Config::default() });
    world.input(Input::Token("t".to_owned()));
    world.input(Input::SetActivity(Activity::Idle));
    world.took();
    world.frame(&welcome());
    assert_eq!(world.sent(), [ClientFrame::Heartbeat { activity: Some(Activity::Idle), id: None }]);
}

#[test]
fn a_token_that_runs_out_is_renewed_on_the_open_session() {
    let mut world = World::up(Config::default());
    world.frame(&ServerFrame::TokenExpiring { expires_at: WallTime::from_millis(5) });
    world.frame(&ServerFrame::TokenExpiring { expires_at: WallTime::from_millis(5) });
    assert_eq!(world.took(), [Output::NeedToken], "asked once");
    world.input(Input::TokenFailed(Failure::new("token_unavailable", "m", "r")));
    world.took();
    world.pass(500);
    assert!(world.took().contains(&Output::NeedToken), "asked again");
    world.input(Input::Token("t2".to_owned()));
    assert!(matches!(&world.sent()[..], [ClientFrame::Auth { token, id: Some(_), .. }] if token == "t2"));
}

#[test]
fn an_old_token_that_is_refused_is_replaced_and_a_new_one_that_is_refused_ends_it() {
    let refused =
        || Input::Closed(Closure::Refused { status: 401, failure: Failure::new("invalid_token", "m", "r") });
    let mut world = World::up(Config::default());
    world.lose();
    world.pass(500);
    world.took();
    world.input(refused());
    world.pass(1_000);
    assert!(world.took().contains(&Output::NeedToken));
    world.input(Input::Token("t2".to_owned()));
    world.input(refused());
    assert_eq!(world.stopped().as_deref(), Some("invalid_token"));
    world.took();
    world.pass(1_000_000);
    assert!(world.took().is_empty(), "it stays away");
}

#[test]
fn a_gateway_that_says_when_to_come_back_is_believed_within_bounds() {
    let busy = |told: u64| {
        let mut failure = Failure::new("busy", "m", "r");
        failure.retry_after = Some(Duration::from_millis(told));
        let mut world = World::up(Config::default());
        world.lose();
        world.pass(500);
        world.input(Input::Closed(Closure::Refused { status: 503, failure }));
        world.retry_in().as_millis()
    };
    for (told, least) in [(7_000, 7_000), (0, 1_000), (86_400_000, 300_000)] {
        assert!((least..least + 500).contains(&busy(told)), "{told}");
    }
}

#[test]
fn each_close_code_has_its_duty() {
    let closed = |code| {
        let mut world = World::up(Config::default());
        world.input(Input::Closed(Closure::Code(code)));
        world
    };
    assert_eq!(closed(1000).stopped(), None);
    assert_eq!(closed(4503).stopped().as_deref(), Some("user_sessions"));
    assert_eq!(closed(4999).stopped().as_deref(), Some("unknown_close_code"));
    assert!(closed(4000).retry_in() < Duration::from_millis(500));
    let mut world = closed(4401);
    world.took();
    world.pass(500);
    assert!(world.took().contains(&Output::NeedToken));
}

#[test]
fn a_reconnect_frame_is_followed_within_its_window() {
    let mut world = World::up(Config::default());
    world.frame(&ServerFrame::Reconnect { after_ms: 1_000, within_ms: 5_000, reason: "shutdown".to_owned() });
    world.pass(999);
    assert!(matches!(world.client.state(), ConnectionState::Connected { .. }));
    world.took();
    world.pass(5_001);
    let out = world.took();
    assert_eq!(out[0], Output::Close);
    assert!(out.iter().any(|output| matches!(output, Output::Connect { .. })));
    assert!(!out.iter().any(|output| matches!(output, Output::Send(text) if text.contains("bye"))));
}

/// A client on its way to another gateway.
fn moving() -> World {
    let mut world = World::up(Config::default());
    world.took();
    world.frame(&ServerFrame::Reconnect { after_ms: 1_000, within_ms: 0, reason: "shutdown".to_owned() });
    world.pass(1_001);
    world
}

#[test]
fn a_move_is_no_news_for_the_application_unless_it_fails() {
    let mut world = moving();
    let out = world.took();
    assert!(!out.iter().any(|output| matches!(output, Output::State(_))), "{out:?}");
    assert!(matches!(world.client.state(), ConnectionState::Connected { .. }));
    world.input(Input::Closed(Closure::Lost(Failure::lost())));
    assert!(matches!(world.client.state(), ConnectionState::Waiting { .. }), "the first attempt failed");
    let mut world = moving();
    world.pass(10_001);
    assert!(matches!(world.client.state(), ConnectionState::Waiting { .. }), "no welcome came");
}

#[test]
fn a_server_that_closes_before_the_client_left_is_come_back_to_when_it_said() {
    let mut world = World::up(Config::default());
    world.frame(&ServerFrame::Reconnect { after_ms: 60_000, within_ms: 0, reason: "shutdown".to_owned() });
    world.pass(10_000);
    world.input(Input::Closed(Closure::Code(4000)));
    assert_eq!(world.retry_in(), Duration::from_secs(50));
}

#[test]
fn bye_waits_for_the_close_and_fails_what_is_open() {
    let mut world = World::up(Config::default());
    world.input(Input::Query { ticket: Ticket(1), users: vec![user("a")] });
    world.took();
    world.input(Input::Bye);
    assert_eq!(world.took(), [Output::Send(r#"{"type":"bye"}"#.to_owned())]);
    world.input(Input::Closed(Closure::Code(1000)));
    assert!(matches!(&world.took()[..],
        [Output::Failed(Ticket(1), failure), Output::State(ConnectionState::Stopped(None))] if &*failure.code == "closed"));
    let mut world = World::up(Config::default());
    world.input(Input::Bye);
    world.pass(2_000);
    assert_eq!(world.stopped(), None);
    assert!(world.took().contains(&Output::Close));
}

#[test]
fn a_gateway_that_never_welcomes_is_left() {
    let mut world = World::new(Config::default());
    world.input(Input::Token("t".to_owned()));
    world.took();
    world.pass(10_000);
    let out = world.took();
    assert_eq!(out[0], Output::Close);
    assert!(
        matches!(&out[1], Output::State(ConnectionState::Waiting { cause, .. }) if &*cause.code == "connect_timeout")
    );
}

#[test]
fn what_is_not_understood_is_ignored_but_heard() {
    let mut world = World::up(Config::default());
    world.pass(15_000);
    world.took();
    for text in ["", "{}", "[]", "\u{0}", r#"{"type":"presence","users":7}"#, r#"{"type":"later"}"#] {
        world.input(Input::Text(text.to_owned()));
    }
    assert!(world.took().is_empty());
    world.pass(15_001);
    assert!(matches!(world.client.state(), ConnectionState::Connected { .. }));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let mut world = World::up(Config::default());
        for _ in 0..5 {
            world.pass(30_000);
            world.lose();
        }
        world.took()
    };
    assert_eq!(run(), run());
}
