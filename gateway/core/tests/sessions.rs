//! The life of a session: signs of life, activity, token, limits, end.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod support;

use herenow_gateway_core::{Input, Output, Slot};
use herenow_protocol::code::{CloseCode, ErrorCode};
use herenow_protocol::frame::{ClientFrame, FrameError, ServerFrame};
use herenow_protocol::message::{Ending, SessionChange};
use herenow_protocol::{Activity, WallTime};
use support::{World, everybody, heartbeat, names, secs, some, watch};

fn endings(world: &mut World) -> Vec<Ending> {
    let how = |change| if let SessionChange::Closed { how, .. } = change { Some(how) } else { None };
    world.changes().into_iter().filter_map(how).collect()
}

fn activities(world: &mut World) -> Vec<Activity> {
    let new = |change| match change {
        SessionChange::Activity { activity, .. } => Some(activity),
        SessionChange::Opened(_) | SessionChange::Closed { .. } => None,
    };
    world.changes().into_iter().filter_map(new).collect()
}

#[test]
fn a_session_is_welcomed_with_the_times_its_client_must_keep() {
    let mut world = World::new();
    world.open(0, "ana");
    let frames = world.frames(0);
    let [ServerFrame::Welcome(welcome)] = frames.as_slice() else { panic!("{frames:?}") };
    assert_eq!(welcome.session, "gw-0/1");
    assert_eq!(welcome.user_id.as_str(), "ana");
    assert_eq!((welcome.heartbeat_interval_ms, welcome.heartbeat_timeout_ms), (20_000, 30_000));
    assert_eq!((welcome.idle_after_ms, welcome.fresh_for_ms), (300_000, 20_000));
    assert_eq!(welcome.server_time, world.wall(0));
}

#[test]
fn a_silent_session_lives_until_the_timeout_and_is_found_within_half_a_second_after_it() {
    let mut world = World::new();
    world.open(0, "ana");
    world.advance_ms(29_999);
    assert_eq!(world.closes(), []);
    assert_eq!(world.gateway.stats().sessions, 1);
    world.advance_ms(501);
    assert_eq!(world.gateway.stats().sessions, 0);
    let out: Vec<_> = world.out.iter().filter(|o| matches!(o, Output::Close(..))).collect();
    assert_eq!(out, [&Output::Close(Slot(0), CloseCode::HeartbeatTimeout)]);
    assert_eq!(endings(&mut world), [Ending::Silent], "silence has waited long enough: no grace");
    assert_eq!(world.gateway.stats().silent_sessions, 1);
}

#[test]
fn the_closing_of_a_silent_session_is_not_told_twice() {
    let mut world = World::new();
    world.open(0, "ana");
    world.advance(secs(31));
    world.out.clear();
    world.close(0, Ending::Lost);
    assert_eq!(endings(&mut world), []);
}

#[test]
fn any_byte_keeps_a_session_alive() {
    let mut world = World::new();
    world.open(0, "ana");
    for _ in 0..5 {
        world.advance_ms(29_900);
        world.handle(Input::Heard(Slot(0)));
    }
    assert_eq!(world.gateway.stats().sessions, 1);
    world.advance(secs(31));
    assert_eq!(world.gateway.stats().sessions, 0);
}

#[test]
fn shorter_timers_find_the_dead_as_much_sooner() {
    let mut world = World::with(|config| {
        config.heartbeat_interval = secs(2);
        config.heartbeat_timeout = secs(3);
    });
    world.open(0, "ana");
    world.advance_ms(2_999);
    assert_eq!(world.gateway.stats().sessions, 1);
    world.advance_ms(101);
    assert_eq!(world.gateway.stats().sessions, 0);
}

#[test]
fn no_heartbeat_crosses_the_bus() {
    let mut world = World::new();
    world.open(0, "ana");
    world.frames(0);
    world.out.clear();
    for _ in 0..10 {
        world.frame(0, heartbeat(None));
        world.frame(0, heartbeat(Some(Activity::Active)));
        world.handle(Input::Heard(Slot(0)));
        world.advance(secs(19));
    }
    assert!(world.out.iter().all(|output| matches!(output, Output::Beat(_))), "{:?}", world.out);
    assert_eq!(world.gateway.stats().heartbeats, 20);
}

#[test]
fn a_heartbeat_is_answered_only_when_asked() {
    let mut world = World::new();
    world.open(0, "ana");
    world.frames(0);
    world.frame(0, heartbeat(None));
    assert_eq!(world.frames(0), []);
    world.frame(0, ClientFrame::Heartbeat { activity: None, id: Some(9) });
    assert_eq!(world.frames(0), [ServerFrame::Ack { id: 9 }]);
}

#[test]
fn what_the_client_says_its_person_does_is_reported_at_once_and_once() {
    let mut world = World::new();
    world.open(0, "ana");
    world.advance_ms(50);
    world.out.clear();
    for activity in [Activity::Idle, Activity::Idle, Activity::Background, Activity::Active] {
        world.frame(0, heartbeat(Some(activity)));
        world.advance_ms(10);
    }
    assert_eq!(activities(&mut world), [Activity::Idle, Activity::Background, Activity::Active]);
}

#[test]
fn a_client_that_says_what_its_person_does_is_believed_however_quiet_it_is() {
    let mut world = World::with(|config| config.heartbeat_timeout = secs(1_000));
    world.open(0, "ana");
    world.out.clear();
    world.advance(secs(400));
    assert_eq!(activities(&mut world), []);
}

#[test]
fn a_session_that_never_says_is_idle_after_a_while_and_active_when_used() {
    let mut world = World::new();
    let opening = world.opening(everybody("ana"), None);
    world.open_as(0, opening);
    world.out.clear();
    for _ in 0..15 {
        world.advance_ms(19_990);
        world.frame(0, heartbeat(None));
    }
    assert_eq!(activities(&mut world), [], "299.85 s: heartbeats are not use, but it is not yet time");
    world.advance_ms(1_200);
    assert_eq!(activities(&mut world), [Activity::Idle]);
    world.frame(0, ClientFrame::Unwatch { id: 1, users: names(&["x"]) });
    world.advance_ms(10);
    assert_eq!(activities(&mut world), [Activity::Active]);
}

#[test]
fn a_session_that_begins_to_say_is_no_longer_inferred() {
    let mut world = World::with(|config| config.heartbeat_timeout = secs(1_000));
    let opening = world.opening(everybody("ana"), None);
    world.open_as(0, opening);
    world.advance(secs(10));
    world.frame(0, heartbeat(Some(Activity::Active)));
    world.out.clear();
    world.advance(secs(400));
    assert_eq!(activities(&mut world), []);
}

#[test]
fn bye_ends_the_session_without_grace() {
    let mut world = World::new();
    world.open(0, "ana");
    world.advance_ms(50);
    world.out.clear();
    world.frame(0, ClientFrame::Bye {});
    assert!(world.out.contains(&Output::Close(Slot(0), CloseCode::Normal)));
    assert_eq!(endings(&mut world), [Ending::Bye]);
    assert_eq!(world.gateway.stats().sessions, 0);
    world.frame(0, watch(1, &["bob"]));
    assert_eq!(world.ups(), [], "what comes after `bye` is not looked at");
}

#[test]
fn a_lost_connection_is_reported_as_lost() {
    let mut world = World::new();
    world.open(0, "ana");
    world.advance_ms(50);
    world.out.clear();
    world.close(0, Ending::Lost);
    assert_eq!(world.out.len(), 1, "the connection is gone: nothing to close");
    assert_eq!(endings(&mut world), [Ending::Lost]);
}

#[test]
fn a_token_that_runs_out_is_warned_of_once_and_closed_after_the_leeway() {
    let mut world = World::new();
    let mut opening = world.opening(everybody("ana"), Some(Activity::Active));
    opening.token_expires = world.wall(100_000);
    world.open_as(0, opening);
    world.frames(0);
    let mut warned = Vec::new();
    let mut alive_until = 0;
    let start = world.ms;
    while world.gateway.stats().sessions == 1 {
        alive_until = world.ms - start;
        world.advance_ms(500);
        world.handle(Input::Heard(Slot(0)));
        let frames = world.frames(0);
        warned.extend(frames.into_iter().map(|frame| (world.ms - start, frame)));
    }
    let [(when, ServerFrame::TokenExpiring { expires_at })] = warned.as_slice() else { panic!("{warned:?}") };
    assert!((40_000..=41_500).contains(when), "a minute before: {when}");
    assert_eq!(expires_at.as_millis(), 1_700_000_000_000 + start + 100_000);
    assert!((104_500..=106_000).contains(&alive_until), "its end and the leeway: {alive_until}");
    assert_eq!(world.closes(), [(0, CloseCode::TokenExpired)]);
}

#[test]
fn a_renewed_token_keeps_the_session_open_and_is_warned_of_again() {
    let mut world = World::new();
    let mut opening = world.opening(everybody("ana"), Some(Activity::Active));
    opening.token_expires = world.wall(61_000);
    world.open_as(0, opening);
    let mut warnings = 0;
    for round in 0..100 {
        world.advance(secs(2));
        world.handle(Input::Heard(Slot(0)));
        warnings += world.frames(0).iter().filter(|f| matches!(f, ServerFrame::TokenExpiring { .. })).count();
        if round == 10 {
            let (viewer, token_expires) = (everybody("ana"), world.wall(130_000));
            world.handle(Input::Renewed { slot: Slot(0), id: Some(4), viewer, token_expires });
            assert_eq!(world.frames(0), [ServerFrame::Ack { id: 4 }]);
        }
        if round == 60 {
            assert_eq!(world.gateway.stats().sessions, 1, "its first token ran out a minute ago");
        }
    }
    assert_eq!(warnings, 2);
    assert_eq!(world.gateway.stats().sessions, 0, "the second ran out as well");
}

#[test]
fn a_token_comes_back_to_be_checked() {
    let mut world = World::new();
    world.open(0, "ana");
    world.frames(0);
    world.out.clear();
    let token = "a.b.c".to_owned();
    let auth =
        ClientFrame::Auth { token: token.clone(), device: None, kind: None, activity: None, id: Some(2) };
    world.frame(0, auth);
    assert_eq!(world.out, [Output::Verify { slot: Slot(0), id: Some(2), token }]);
    world.handle(Input::NotRenewed { slot: Slot(0), id: Some(2), code: ErrorCode::InvalidToken });
    assert_eq!(world.errors(0), [(Some(2), ErrorCode::InvalidToken)]);
    assert_eq!(world.gateway.stats().sessions, 1, "the token it came with still holds");
}

#[test]
fn the_token_of_another_user_closes_the_session() {
    let mut world = World::new();
    world.open(0, "ana");
    let token_expires = world.wall(1_000_000);
    world.out.clear();
    world.handle(Input::Renewed { slot: Slot(0), id: Some(1), viewer: everybody("bob"), token_expires });
    assert_eq!(world.closes(), [(0, CloseCode::UserChanged)]);
    assert_eq!(CloseCode::UserChanged.number(), 4502);
}

#[test]
fn a_bad_frame_is_an_error_that_leaves_the_session_open() {
    let mut world = World::new();
    world.open(0, "ana");
    let error = FrameError { code: ErrorCode::UnknownFrame, message: "no".to_owned(), id: Some(3) };
    world.handle(Input::BadFrame(Slot(0), error));
    assert_eq!(world.errors(0), [(Some(3), ErrorCode::UnknownFrame)]);
    assert_eq!(world.gateway.stats().sessions, 1);
}

#[test]
fn a_user_has_so_many_sessions_and_one_more_is_refused() {
    let mut world = World::with(|config| config.max_sessions_per_user = 3);
    for slot in 0..3 {
        world.open(slot, "ana");
    }
    assert_eq!(world.closes(), []);
    world.open(3, "ana");
    world.open(4, "bob");
    assert_eq!(world.closes(), [(3, CloseCode::UserSessions)]);
    assert_eq!(world.frames(3), [], "it is not welcomed");
    world.close(3, Ending::Lost);
    assert_eq!(world.gateway.stats().sessions, 4);
    world.close(0, Ending::Lost);
    world.open(3, "ana");
    assert_eq!(world.gateway.stats().sessions, 4, "one went, one may come");
}

#[test]
fn a_gateway_has_so_many_sessions_and_one_more_is_sent_elsewhere() {
    let mut world = World::with(|config| config.max_sessions = 2);
    world.open(0, "ana");
    world.open(1, "bob");
    assert_eq!(world.closes(), []);
    world.advance_ms(50);
    world.out.clear();
    world.open(2, "cy");
    assert_eq!(world.out, [Output::Close(Slot(2), CloseCode::GatewayFull)], "nothing is reported of it");
    world.close(2, Ending::Lost);
    world.advance_ms(50);
    assert_eq!(endings(&mut world), []);
    world.close(1, Ending::Lost);
    world.open(2, "cy");
    assert_eq!(world.closes(), []);
}

#[test]
fn sixty_frames_at_once_are_taken_and_one_more_closes() {
    let mut world = World::new();
    world.open(0, "ana");
    for _ in 0..60 {
        world.frame(0, heartbeat(None));
    }
    assert_eq!(world.closes(), []);
    world.frame(0, heartbeat(None));
    assert_eq!(world.closes(), [(0, CloseCode::RateLimited)]);
}

#[test]
fn twenty_frames_a_second_may_go_on_for_ever() {
    let mut world = World::new();
    world.open(0, "ana");
    for _ in 0..2_000 {
        world.advance_ms(50);
        world.frame(0, heartbeat(None));
    }
    assert_eq!(world.closes(), []);
    for _ in 0..1_000 {
        world.advance_ms(45);
        world.frame(0, heartbeat(None));
    }
    assert_eq!(world.closes(), [(0, CloseCode::RateLimited)], "22 a second are too many");
}

#[test]
fn bursts_within_the_average_are_taken() {
    let mut world = World::new();
    world.open(0, "ana");
    for _ in 0..50 {
        for _ in 0..30 {
            world.frame(0, heartbeat(None));
        }
        world.advance_ms(1_900);
    }
    assert_eq!(world.closes(), [], "16 frames a second");
}

#[test]
fn a_client_that_does_not_read_its_answers_is_closed() {
    let mut world = World::with(|config| config.max_outbox_bytes = 4_096);
    world.open(0, "ana");
    let ack = ClientFrame::Heartbeat { activity: None, id: Some(1) };
    let mut sent = 0;
    while world.gateway.stats().sessions == 1 {
        world.advance_ms(100);
        world.frame(0, ack.clone());
        sent += 1;
        assert!(sent < 1_000, "the outbox has a limit");
    }
    assert_eq!(world.closes(), [(0, CloseCode::SlowConsumer)]);
    assert!(sent > 100, "answers of 4 KiB may wait: {sent}");
    let waiting: usize = std::iter::from_fn(|| world.raw(0)).map(|text| text.len()).sum();
    assert!(waiting <= 4_096, "{waiting}");
}

#[test]
fn a_client_that_reads_is_not_closed_however_much_it_asks() {
    let mut world = World::with(|config| config.max_outbox_bytes = 4_096);
    world.open(0, "ana");
    for _ in 0..1_000 {
        world.advance_ms(100);
        world.frame(0, ClientFrame::Heartbeat { activity: None, id: Some(1) });
        world.frames(0);
    }
    assert_eq!(world.closes(), []);
}

#[test]
fn draining_sends_everybody_elsewhere_also_who_comes_late() {
    let mut world = World::new();
    world.open(0, "ana");
    world.open(1, "bob");
    world.frames(0);
    world.frames(1);
    world.handle(Input::Drain { within_ms: 9_000 });
    world.open(2, "cy");
    let away = ServerFrame::Reconnect { after_ms: 0, within_ms: 9_000, reason: "shutdown".to_owned() };
    assert_eq!(world.frames(0), std::slice::from_ref(&away));
    assert_eq!(world.frames(1), std::slice::from_ref(&away));
    assert_eq!(world.frames(2).last(), Some(&away));
    assert_eq!(world.closes(), [], "the server closes them when the window is over");
}

#[test]
fn what_ended_in_the_meantime_is_not_sent_elsewhere() {
    let mut world = World::new();
    world.open(0, "ana");
    world.frames(0);
    world.frame(0, ClientFrame::Bye {});
    world.handle(Input::Drain { within_ms: 9_000 });
    assert_eq!(world.frames(0), []);
}

#[test]
fn a_process_that_stood_still_gives_its_sessions_the_time_back() {
    let mut world = World::new();
    world.open(0, "ana");
    world.advance(secs(20));
    world.stand_still(secs(60));
    world.advance_ms(9_900);
    assert_eq!(world.gateway.stats().sessions, 1, "29.9 s of listening");
    assert_eq!(world.gateway.stats().stalls, 1);
    world.advance_ms(1_200);
    assert_eq!(world.gateway.stats().sessions, 0);
}

#[test]
fn words_that_no_session_has_do_nothing() {
    let mut world = World::new();
    let (viewer, token_expires) = (some("ana", &[]), WallTime::from_millis(0));
    world.handle(Input::Heard(Slot(7)));
    world.handle(Input::Closed(Slot(7), Ending::Lost));
    world.handle(Input::Renewed { slot: Slot(7), id: Some(1), viewer, token_expires });
    world.handle(Input::NotRenewed { slot: Slot(7), id: None, code: ErrorCode::InvalidToken });
    world.frame(7, watch(1, &["bob"]));
    assert_eq!(world.raw(7), None);
    assert_eq!(world.out, []);
}

#[test]
fn who_goes_from_a_draining_gateway_moves_unless_it_took_its_leave_or_was_silent() {
    let mut world = World::new();
    for (slot, name) in (0..).zip(["ana", "bob", "cy", "dan"]) {
        world.open(slot, name);
    }
    world.advance(secs(25));
    world.frame(0, heartbeat(None));
    world.frame(1, heartbeat(None));
    world.frame(3, heartbeat(None));
    world.out.clear();
    world.handle(Input::Drain { within_ms: 9_000 });
    world.close(0, Ending::Lost);
    world.frame(1, ClientFrame::Bye {});
    world.advance(secs(6));
    assert_eq!(endings(&mut world), [Ending::Moving, Ending::Bye, Ending::Silent]);
    assert_eq!(world.gateway.stats().sessions, 1, "dan is given the whole window");
}

#[test]
fn who_comes_late_is_told_what_is_left_of_the_window() {
    let mut world = World::new();
    world.handle(Input::Drain { within_ms: 9_000 });
    world.advance_ms(4_000);
    world.open(0, "ana");
    let away = ServerFrame::Reconnect { after_ms: 0, within_ms: 5_000, reason: "shutdown".to_owned() };
    assert_eq!(world.frames(0).last(), Some(&away));
}

#[test]
fn the_last_words_are_said_at_once_and_nothing_follows_but_them() {
    let mut world = World::with(|config| config.report_window = secs(1));
    world.open(0, "ana");
    world.open(1, "bob");
    world.handle(Input::Drain { within_ms: 100 });
    world.advance_ms(100);
    world.out.clear();
    world.handle(Input::Leave);
    let (reports, beats): (Vec<_>, Vec<_>) =
        std::mem::take(&mut world.out).into_iter().partition(|output| matches!(output, Output::Up(_)));
    world.out = reports;
    let changes = world.changes();
    assert_eq!(changes.iter().filter(|c| matches!(c, SessionChange::Opened(_))).count(), 1, "bob waited");
    let moved = |c: &&SessionChange| matches!(c, SessionChange::Closed { how: Ending::Moving, .. });
    assert_eq!(changes.iter().filter(moved).count(), 2);
    let left =
        |output: &Output| matches!(output, Output::Beat(beat) if beat.left && beat.streams[0].seq == 2);
    assert!(beats.len() == 1 && left(&beats[0]), "{beats:?}");
    assert_eq!(world.gateway.stats().sessions, 0);
    world.advance(secs(2));
    let later = world.out.iter().filter(|output| matches!(output, Output::Beat(_)));
    assert!(later.clone().count() > 0 && later.into_iter().all(|o| matches!(o, Output::Beat(b) if b.left)));
}
