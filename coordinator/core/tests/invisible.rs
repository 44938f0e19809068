//! An invisible user cannot be told from one who left: not by a byte, a number, or a moment.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod support;

use herenow_coordinator_core::Output;
use herenow_protocol::frame::{ManualStatus, encode};
use herenow_protocol::message::{ApiStatus, ClaimCommand, Ending};
use herenow_protocol::{Activity, Status};
use proptest::prelude::*;
use support::{World, api, manual, named};

#[derive(Clone, Debug)]
enum Step {
    Open(u8, Activity),
    Activity(u8, Activity),
    Close(u8, bool),
    Api(ApiStatus),
    Virtual,
    Words,
    Wait(u16),
}

fn activity() -> impl Strategy<Value = Activity> {
    prop_oneof![Just(Activity::Active), Just(Activity::Idle), Just(Activity::Background)]
}

fn status() -> impl Strategy<Value = ApiStatus> {
    prop_oneof![
        Just(ApiStatus::Online),
        Just(ApiStatus::Idle),
        Just(ApiStatus::Dnd),
        Just(ApiStatus::Offline)
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4_u8, activity()).prop_map(|(tab, activity)| Step::Open(tab, activity)),
        (0..4_u8, activity()).prop_map(|(tab, activity)| Step::Activity(tab, activity)),
        (0..4_u8, any::<bool>()).prop_map(|(tab, bye)| Step::Close(tab, bye)),
        status().prop_map(Step::Api),
        Just(Step::Virtual),
        Just(Step::Words),
        (0..20_000_u16).prop_map(Step::Wait),
    ]
}

/// What everybody may learn of a user: the public feed, and answers to those who ask.
fn seen(world: &mut World) -> Vec<String> {
    let mut seen: Vec<String> = world.take(|output| match output {
        Output::Changes(changes) => {
            let changes: Vec<_> = changes.changes.iter().map(encode).collect();
            Some(changes.join("\n")).filter(|text| !text.is_empty())
        }
        Output::Transition(transition) => Some(format!("{transition:?}")),
        Output::UserChange(user, change) => Some(format!("{user} {}", encode(&change))),
        Output::Down(delta) => {
            let public: Vec<_> = delta.entries.iter().map(|entry| &entry.public).collect();
            let known = |shown: &&&herenow_protocol::message::Shown| shown.status != Status::Offline;
            let told: Vec<String> = public.iter().filter(known).map(|shown| format!("{shown:?}")).collect();
            Some(told.join("\n")).filter(|text| !text.is_empty())
        }
        Output::Subscribe(_)
        | Output::Unsubscribe(_)
        | Output::Record { .. }
        | Output::Beat(_)
        | Output::ToGateway(..)
        | Output::Fenced(..)
        | Output::Load { .. }
        | Output::Keep(_)
        | Output::Forget { .. }
        | Output::Erased(_)
        | Output::Listed { .. } => None,
    });
    seen.push(format!("{:?}", world.public("ana")));
    let page = world.list(None).unwrap();
    seen.push(encode(&page.users));
    seen
}

fn act(world: &mut World, step: Step, next: &mut u64, tabs: &mut [Option<u64>; 4]) {
    match step {
        Step::Open(tab, activity) => {
            if tabs[usize::from(tab)].is_none() {
                *next += 1;
                tabs[usize::from(tab)] = Some(*next);
                world.open_on(0, *next, "ana", &format!("tab {tab}"), activity);
            }
        }
        Step::Activity(tab, activity) => {
            if let Some(number) = tabs[usize::from(tab)] {
                world.activity(0, number, activity);
            }
        }
        Step::Close(tab, bye) => {
            if let Some(number) = tabs[usize::from(tab)].take() {
                world.close(0, number, if bye { Ending::Bye } else { Ending::Lost });
            }
        }
        Step::Api(status) => {
            world.claim("ana", api(status, None));
        }
        Step::Virtual => {
            world.claim("ana", named(ApiStatus::Online, "bridge", Some(7)));
        }
        Step::Words => {
            let text = Some(Box::from(format!("words {next}")));
            let status = ManualStatus::Invisible;
            world.claim("ana", ClaimCommand::Manual { status, text, emoji: None, expires_at: None });
        }
        Step::Wait(ms) => world.advance_ms(u64::from(ms)),
    }
}

fn here() -> World {
    let mut world = World::with(|config| {
        config.publish_devices = true;
        config.publish_user_subjects = true;
    });
    world.open_on(0, 1, "ana", "tab 0", Activity::Active);
    world.advance_ms(50);
    world.out.clear();
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_hidden_user_does_is_seen_by_nobody(steps in prop::collection::vec(step(), 0..40)) {
        let mut left = here();
        left.close(0, 1, Ending::Bye);
        left.advance_ms(50);
        let gone: Vec<String> =
            seen(&mut left);

        let mut hidden = here();
        hidden.claim("ana", manual(ManualStatus::Invisible));
        hidden.advance_ms(50);
        let hid: Vec<String> =
            seen(&mut hidden);
        // The epoch is random by seed and both worlds have the same; so times, numbers and bytes are the same.
        prop_assert_eq!(&hid, &gone, "going invisible looks like leaving, to watchers and to backends");

        let quiet = hid[hid.len() - 2..].to_vec();
        let (mut next, mut tabs) = (1, [Some(1), None, None, None]);
        for step in steps {
            act(&mut hidden, step.clone(), &mut next, &mut tabs);
            prop_assert_eq!(seen(&mut hidden), quiet.clone(), "after {:?}", step);
        }
    }
}

#[test]
fn the_user_itself_sees_the_truth_while_it_hides() {
    let mut world = here();
    world.claim("ana", manual(ManualStatus::Invisible));
    assert_eq!(world.own("ana").status, Status::Online);
    world.activity(0, 1, Activity::Idle);
    assert_eq!(world.own("ana").status, Status::Idle);
    assert_eq!(world.status("ana"), Status::Offline);
}

#[test]
fn what_only_the_user_itself_sees_is_an_empty_numbered_batch() {
    let mut world = here();
    world.claim("ana", manual(ManualStatus::Invisible));
    world.advance_ms(50);
    let last = world.changes().last().unwrap().last;
    world.activity(0, 1, Activity::Idle);
    world.advance_ms(50);
    let batches = world.changes();
    let [batch] = batches.as_slice() else { panic!("{batches:?}") };
    assert_eq!((batch.prev, batch.last, batch.changes.len()), (last, last + 1, 0));
}

#[test]
fn a_user_who_shows_itself_again_is_seen_with_a_newer_version() {
    let mut world = here();
    world.claim("ana", manual(ManualStatus::Invisible));
    let hidden = world.public("ana").unwrap();
    for activity in [Activity::Idle, Activity::Active, Activity::Idle] {
        world.activity(0, 1, activity);
    }
    let own = world.own("ana");
    world.claim("ana", manual(ManualStatus::Auto));
    let shown = world.public("ana").unwrap();
    assert_eq!(shown.status, Status::Idle);
    assert!(shown.n > hidden.n && shown.n > own.n, "newer for everybody, and for the user itself");
}

#[test]
fn a_hidden_user_whose_claim_ends_after_it_left_is_not_given_away() {
    let mut world = here();
    let expires_at = Some(world.wall(60_000));
    let status = ManualStatus::Invisible;
    world.claim("ana", ClaimCommand::Manual { status, text: None, emoji: None, expires_at });
    world.close(0, 1, Ending::Bye);
    world.advance_ms(50);
    world.out.clear();
    world.advance_ms(61_000);
    let transitions = world.transitions();
    assert_eq!(transitions, [], "offline before and after");
}
