//! What owners are told of sessions: numbered reports, and all of it when asked (R3 to R5).

#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one kind of output")]
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod support;

use herenow_gateway_core::{Input, Output};
use herenow_protocol::frame::ClientFrame;
use herenow_protocol::message::{Ending, SessionChange, ToGateway};
use herenow_protocol::{Activity, Epoch, Incarnation};
use support::{ONE, PARTITION, TWO, World, heartbeat, origin, secs};

fn resync(world: &mut World, epoch: Epoch, incarnation: Incarnation) {
    world.out.clear();
    world.handle(Input::Message(ToGateway::Resync { partition: PARTITION, epoch, incarnation }));
}

#[test]
fn reports_are_numbered_without_a_hole() {
    let mut world = World::new();
    for slot in 0..5 {
        world.open(slot, "ana");
        world.advance_ms(6);
    }
    let reports = world.reports();
    assert_eq!(reports.iter().map(|r| r.seq).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert!(reports.iter().all(|r| r.origin == origin() && r.partition == PARTITION && r.epoch_seen == ONE));
}

#[test]
fn the_first_change_after_a_silence_does_not_wait_and_the_next_wait_together() {
    let mut world = World::new();
    world.open(0, "ana");
    assert_eq!(world.reports().len(), 1);
    world.open(1, "bob");
    world.advance_ms(2);
    world.open(2, "cy");
    world.advance_ms(2);
    assert_eq!(world.reports(), []);
    world.advance_ms(1);
    let reports = world.reports();
    assert_eq!(reports.len(), 1, "one report at the end of the window");
    assert_eq!(reports[0].changes.len(), 2);
}

#[test]
fn with_no_window_none_waits() {
    let mut world = World::with(|config| config.report_window = secs(0));
    for slot in 0..3 {
        world.open(slot, "ana");
    }
    assert_eq!(world.reports().len(), 3);
}

#[test]
fn a_report_holds_five_hundred_changes_and_the_next_goes_into_another() {
    let mut world = World::with(|config| config.max_sessions_per_user = 1_000);
    world.open(0, "first");
    world.out.clear();
    for slot in 1..=501 {
        world.open(slot, "ana");
    }
    world.advance_ms(5);
    let reports = world.reports();
    assert_eq!(reports.iter().map(|r| (r.seq, r.changes.len())).collect::<Vec<_>>(), [(2, 500), (3, 1)]);
}

#[test]
fn a_beat_tells_how_far_the_reports_are_and_which_epoch_was_seen() {
    let mut world = World::new();
    world.open(0, "ana");
    world.out.clear();
    world.advance_ms(600);
    let beat = world.out.iter().find_map(|o| if let Output::Beat(beat) = o { Some(beat) } else { None });
    let beat = beat.unwrap();
    assert_eq!(beat.origin, origin());
    let streams: Vec<_> = beat.streams.iter().map(|s| (s.partition, s.seq, s.epoch_seen)).collect();
    assert_eq!(streams, [(PARTITION, 1, ONE)]);
}

#[test]
fn a_beat_comes_every_interval_even_when_nothing_happens() {
    let mut world = World::new();
    world.advance(secs(10));
    let beats = world.out.iter().filter(|output| matches!(output, Output::Beat(_))).count();
    assert!((20..=21).contains(&beats), "{beats}");
}

#[test]
fn a_sync_is_everything_that_lives_and_what_ended_of_late() {
    let mut world = World::new();
    for (slot, name) in [(0, "ana"), (1, "bob"), (2, "cy")] {
        world.open(slot, name);
    }
    world.advance(secs(1));
    world.frame(2, heartbeat(Some(Activity::Idle)));
    world.close(0, Ending::Lost);
    world.advance(secs(3));
    world.frame(1, ClientFrame::Bye {});
    world.advance(secs(1));
    resync(&mut world, ONE, origin().incarnation);
    let syncs = world.syncs();
    let [sync] = syncs.as_slice() else { panic!("{syncs:?}") };
    assert_eq!((sync.page, sync.last, sync.epoch_seen), (0, true, ONE));
    let live: Vec<_> = sync.sessions.iter().map(|r| (r.number.0, r.activity)).collect();
    assert_eq!(live, [(3, Activity::Idle)], "as they are now");
    let ended: Vec<_> = sync.ended.iter().map(|e| (e.record.number.0, e.how, e.ago_ms)).collect();
    assert_eq!(ended, [(1, Ending::Lost, 4_000), (2, Ending::Bye, 1_000)]);
}

#[test]
fn a_sync_comes_after_what_waited_and_carries_its_number() {
    let mut world = World::new();
    world.open(0, "ana");
    world.open(1, "bob");
    resync(&mut world, ONE, origin().incarnation);
    let ups = world.ups();
    let kinds: Vec<_> = ups
        .iter()
        .map(|up| match up {
            herenow_protocol::message::Up::Report(r) => ("report", r.seq),
            herenow_protocol::message::Up::Sync(s) => ("sync", s.seq),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(kinds, [("report", 2), ("sync", 2)]);
    world.advance_ms(10);
    world.open(2, "cy");
    world.advance_ms(10);
    assert_eq!(world.reports()[0].seq, 3, "the next report goes on from the sync");
}

#[test]
fn a_sync_of_many_sessions_comes_in_numbered_pages() {
    let mut world = World::with(|config| config.max_sessions_per_user = 2_000);
    for slot in 0..801 {
        world.open(slot, "ana");
    }
    resync(&mut world, ONE, origin().incarnation);
    let pages: Vec<_> = world.syncs().iter().map(|s| (s.page, s.last, s.sessions.len())).collect();
    assert_eq!(pages, [(0, false, 400), (1, false, 400), (2, true, 1)]);
}

#[test]
fn who_ended_long_ago_is_forgotten() {
    let mut world = World::with(|config| config.ended_kept = secs(5));
    world.open(0, "ana");
    world.close(0, Ending::Lost);
    world.advance_ms(4_900);
    resync(&mut world, ONE, origin().incarnation);
    let sync = world.syncs().remove(0);
    assert_eq!((sync.ended.len(), sync.forgot_ms), (1, None));
    world.advance_ms(1_200);
    resync(&mut world, ONE, origin().incarnation);
    let sync = world.syncs().remove(0);
    assert_eq!((sync.ended.len(), sync.forgot_ms), (0, Some(6_100)));
}

#[test]
fn so_many_that_ended_are_remembered_and_of_one_more_the_oldest_is_forgotten() {
    let mut world = World::with(|config| config.max_ended = 3);
    for (slot, name) in [(0, "a"), (1, "b"), (2, "c"), (3, "d")] {
        world.open(slot, name);
        world.close(slot, Ending::Lost);
        world.advance_ms(10);
    }
    resync(&mut world, ONE, origin().incarnation);
    let sync = world.syncs().remove(0);
    assert_eq!(sync.forgot_ms, Some(40));
    let numbers: Vec<_> = sync.ended.iter().map(|e| e.record.number.0).collect();
    assert_eq!(numbers, [2, 3, 4]);
}

#[test]
fn a_resync_for_an_earlier_life_is_ignored() {
    let mut world = World::new();
    world.open(0, "ana");
    resync(&mut world, ONE, Incarnation(4));
    assert_eq!(world.out, []);
}

#[test]
fn a_resync_of_an_epoch_that_is_over_is_not_answered() {
    let mut world = World::new();
    world.owner.epoch = TWO;
    world.beat();
    world.open(0, "ana");
    resync(&mut world, ONE, origin().incarnation);
    assert_eq!(world.syncs(), []);
}

#[test]
fn a_resync_of_a_higher_epoch_adopts_it_and_is_answered_once() {
    let mut world = World::new();
    world.open(0, "ana");
    resync(&mut world, TWO, origin().incarnation);
    let syncs = world.syncs();
    assert_eq!(syncs.len(), 1);
    assert_eq!(syncs[0].epoch_seen, TWO);
}

#[test]
fn a_session_that_came_and_went_between_two_reports_is_in_the_report_in_order() {
    let mut world = World::new();
    world.open(0, "ana");
    world.out.clear();
    world.open(1, "bob");
    world.frame(1, heartbeat(Some(Activity::Idle)));
    world.close(1, Ending::Lost);
    world.advance_ms(5);
    let changes = world.changes();
    assert!(
        matches!(
            changes.as_slice(),
            [SessionChange::Opened(_), SessionChange::Activity { .. }, SessionChange::Closed { .. }]
        ),
        "{changes:?}"
    );
}

#[test]
fn session_numbers_are_never_used_twice_though_slots_are() {
    let mut world = World::new();
    let mut numbers = Vec::new();
    for _ in 0..4 {
        world.open(0, "ana");
        world.close(0, Ending::Lost);
        world.advance_ms(5);
        numbers.extend(world.changes().into_iter().filter_map(|change| match change {
            SessionChange::Opened(record) => Some(record.number.0),
            SessionChange::Activity { .. } | SessionChange::Closed { .. } => None,
        }));
    }
    assert_eq!(numbers, [1, 2, 3, 4]);
}
