//! P9: a wrong clock makes nothing due. While running by the time that passed, at a start by the newest record of the log.

use std::sync::Arc;

use jiff::SignedDuration;
use ring::rand::SystemRandom;

use super::looks::until;
use super::world::{World, settings};
use crate::clock::{Environment, ShiftedClock};
use crate::domain::workflow::Step;
use crate::engine::EngineSettings;
use crate::engine::breaker::BREAKER;
use crate::engine::freeze::{Freeze, lifted};
use crate::store::{Page, RunFilter};

const MINUTE: SignedDuration = SignedDuration::from_mins(1);
const HOUR: SignedDuration = SignedDuration::from_hours(1);
const YEAR: SignedDuration = SignedDuration::from_hours(24 * 365);

async fn runs(world: &World) -> usize {
    let runs = world.store.runs(&RunFilter::default(), Page::first(10)).await.unwrap();
    runs.len()
}

/// Row 1.
#[tokio::test(flavor = "multi_thread")]
async fn a_jump_in_either_direction_freezes_and_a_small_correction_does_not() {
    let world = World::new().await;
    let engine = world.start().await;
    let pass = || async { (engine.status().last_pass.took.as_nanos() > 0).then(|| engine.status().last_pass) };
    until("a first pass was made", pass).await;

    world.clock.shift(MINUTE);
    let corrected = world.env.now();
    let seen = until("a pass saw the correction", || async {
        pass().await.filter(|pass| pass.at > corrected)
    })
    .await;
    assert_eq!(seen.frozen, None, "a minute is within the tolerance");

    for by in [HOUR, -(HOUR + HOUR)] {
        world.clock.shift(by);
        let frozen = until("it froze itself", || async { engine.status().last_pass.frozen }).await;
        assert_eq!(frozen.by, "keyfall");
        world.until_open("clock_jump", "node-a", true).await;
        world.put(vec![lifted()]).await;
        until("it goes on", || async {
            engine.status().last_pass.frozen.is_none().then_some(())
        })
        .await;
        world.until_open("clock_jump", "node-a", false).await;
    }
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jump_is_told_while_a_person_has_frozen_everything() {
    let world = World::new().await;
    let by_hand = Freeze {
        reason: "a drill".to_owned(),
        by: "ada".to_owned(),
        at: world.env.now(),
    };
    world.put(vec![by_hand.fact()]).await;
    let engine = world.start().await;
    let pass = || async { engine.status().last_pass.frozen };
    until("a first pass was made", pass).await;
    world.clock.shift(YEAR);
    world.until_open("clock_jump", "node-a", true).await;
    let frozen = until("both reasons stand", || async {
        pass().await.filter(|frozen| frozen.by == "keyfall")
    })
    .await;
    assert!(
        frozen.reason.contains("jumped") && frozen.reason.contains("a drill"),
        "{}",
        frozen.reason
    );
    engine.shutdown().await;
}

/// Row 1.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_before_the_newest_record_is_frozen() {
    let world = World::new().await;
    world.record(-YEAR).await;
    world.due("app", HOUR).await;
    let engine = world.start().await;
    let frozen = until("it froze itself", || async { engine.status().last_pass.frozen }).await;
    assert!(frozen.reason.contains("before the newest record"), "{}", frozen.reason);
    engine.shutdown().await;
    assert_eq!(runs(&world).await, 0);
    assert!(world.is_open("clock_jump", "node-a").await);
}

/// Row 1.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_a_year_ahead_rotates_no_small_installation_whole() {
    let world = World::new().await;
    for name in ["one", "two", "three"] {
        world.due(name, -HOUR).await;
    }
    world.record(MINUTE).await;
    world.clock.shift(YEAR);
    let engine = world.start_with(Arc::clone(&world.store), settings()).await;
    let tripped = until("the breaker is open", || async { engine.status().last_pass.breaker }).await;
    assert!(tripped.why.contains("nothing was recorded"), "{}", tripped.why);
    engine.shutdown().await;
    assert_eq!(runs(&world).await, 0);
    assert!(world.store.setting(BREAKER).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_after_a_night_goes_on_with_what_is_due() {
    let world = World::new().await;
    for name in ["one", "two", "three"] {
        world.due(name, -HOUR).await;
    }
    world.record(MINUTE).await;
    world.clock.shift(SignedDuration::from_hours(12));
    let engine = world.start().await;
    until("all are opened", || async { (runs(&world).await == 3).then_some(()) }).await;
    assert_eq!(engine.status().last_pass.frozen, None);
    engine.shutdown().await;
}

/// Row 1. Between two passes nothing that is taken away slips through: who is about to take it looks as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_stands_before_its_revocation_when_the_clock_jumps_takes_nothing_away() {
    for by in [HOUR, -HOUR, YEAR, -YEAR] {
        let world = World::new().await;
        let live = world.due("app", HOUR).await;
        world.steps.close_gate(Step::Deliver);
        let engine = world.start().await;
        until("the run delivers", || async {
            world.steps.has_called(Step::Deliver).then_some(())
        })
        .await;
        world.clock.shift(by);
        world.steps.open_gate(Step::Deliver);
        world.until_open("clock_jump", "node-a", true).await;
        until("the run is held back", || async {
            let run = world.run_of(&live).await?;
            (run.row.step.as_deref() == Some("revoke_old") && run.row.node.is_none()).then_some(())
        })
        .await;
        engine.shutdown().await;
        assert!(!world.steps.has_called(Step::RevokeOld), "{by:#}");
        assert!(world.steps.is_live(live.credential), "{by:#}");
    }
}

/// What one node writes another one judges, so minutes between their clocks are no minutes between a revocation and its proof.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_writes_is_told_by_the_stores_clock() {
    for by in [MINUTE * 4, -MINUTE * 4] {
        let mut world = World::new().await;
        let live = world.due("app", HOUR).await;
        let own = Arc::new(ShiftedClock::default());
        own.shift(by);
        let of_the_store = std::mem::replace(
            &mut world.env,
            Environment::new(own as _, Arc::new(SystemRandom::new())),
        );
        let from = of_the_store.now();
        let settings = EngineSettings {
            take_over_at_start: false,
            ..settings()
        };
        let engine = world.start_with(Arc::clone(&world.store), settings).await;
        let run = world.until_status(&live, "completed").await;
        engine.shutdown().await;
        let to = of_the_store.now();
        let within = MINUTE / 2;
        let is_told_right = |at| from - within < at && at < to + within;
        assert!(
            run.events.iter().all(|event| is_told_right(event.at)),
            "{by:#}: {:?}",
            run.events
        );
    }
}
