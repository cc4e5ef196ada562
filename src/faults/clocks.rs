//! The clock jumps, stands still, or is not the store's, wherever a rotation stands: nothing is taken away, and an alarm names the reason. It does
//! not know how the engine finds out.

use std::sync::Arc;

use jiff::SignedDuration;
use serde_json::json;

use crate::clock::{Environment, ShiftedClock};
use crate::domain::workflow::Step;
use crate::engine::tests::looks::until;
use crate::engine::tests::world::{Live, World};
use crate::store::{FindingFilter, Page};

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const YEAR: SignedDuration = SignedDuration::from_hours(24 * 365);
/// Steps of a rotation before something is taken away. Nothing is waited for in between: a wait would hold the run back by itself.
const BEFORE: [Step; 5] = [
    Step::Precheck,
    Step::IssueNew,
    Step::ProveNew,
    Step::Deliver,
    Step::Promote,
];

#[derive(Debug, Clone, Copy)]
enum Wrong {
    Jumps(SignedDuration),
    StandsStill,
    /// From the start of the process on.
    IsNotTheStores,
}

impl Wrong {
    fn told(self) -> &'static str {
        match self {
            Self::Jumps(_) => "jumped",
            Self::StandsStill => "stood still",
            Self::IsNotTheStores => "apart",
        }
    }
}

async fn alarm(world: &World) -> Option<String> {
    let filter = FindingFilter {
        kind: Some("clock_jump".to_owned()),
        subject: None,
        open_only: true,
    };
    let found = world.store.findings(&filter, Page::first(1)).await.unwrap();
    found.into_iter().next().map(|finding| finding.text)
}

/// Nothing is taken away from here on, and somebody is told why.
async fn nothing_goes(world: &World, live: &Live, wrong: Wrong, at: &str) {
    let text = until("an alarm is raised", || alarm(world)).await;
    assert!(text.contains(wrong.told()), "{wrong:?} at {at}: {text}");
    assert!(!world.steps.has_called(Step::RevokeOld), "{wrong:?} at {at}");
    assert!(world.steps.is_live(live.credential), "{wrong:?} at {at}");
}

async fn goes_wrong_at(step: Step, wrong: Wrong) {
    let world = World::with_policy(json!({ "overlap": "0s" })).await;
    let live = world.due("app", HOUR).await;
    world.steps.close_gate(step);
    let engine = world.start().await;
    until("the step is called", || async {
        world.steps.has_called(step).then_some(())
    })
    .await;
    match wrong {
        Wrong::Jumps(by) => {
            world.clock.shift(by);
            world.steps.open_gate(step);
            engine.ring();
        }
        _ => world.clock.hold(),
    }
    nothing_goes(&world, &live, wrong, step.name()).await;
    if let Wrong::Jumps(_) = wrong {
        rests(&world, &live).await;
    }
    world.steps.open_gate(step);
    engine.shutdown().await;
    nothing_goes(&world, &live, wrong, step.name()).await;
}

async fn rests(world: &World, live: &Live) {
    until("the run rests", || async {
        let run = world.run_of(live).await?;
        run.row.node.is_none().then_some(())
    })
    .await;
}

/// Row 1.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_anywhere_in_a_rotation_takes_nothing_away() {
    let mut cells = 0;
    for step in BEFORE {
        for by in [HOUR, -HOUR, YEAR, -YEAR] {
            goes_wrong_at(step, Wrong::Jumps(by)).await;
            cells += 1;
        }
    }
    println!("COVERED: clock jumps {cells}");
}

/// Row 1.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_stands_still_takes_nothing_away() {
    goes_wrong_at(Step::ProveNew, Wrong::StandsStill).await;
}

/// Row 1.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_not_the_stores_takes_nothing_away() {
    for by in [HOUR, -HOUR, YEAR, -YEAR] {
        let mut world = World::with_policy(json!({ "overlap": "0s" })).await;
        // Also by a clock that is an hour behind.
        let live = world.due("app", HOUR * 2).await;
        let own = Arc::new(ShiftedClock::default());
        own.shift(by);
        world.env = Environment::new(own as _, Arc::new(ring::rand::SystemRandom::new()));
        let engine = world.start().await;
        nothing_goes(&world, &live, Wrong::IsNotTheStores, &format!("its start, {by:#}")).await;
        engine.shutdown().await;
        nothing_goes(&world, &live, Wrong::IsNotTheStores, &format!("its end, {by:#}")).await;
    }
}
