//! What several nodes may do to one system together: steps at once, calls a second, and nothing at all while it does not answer.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use keyfall_sdk::ErrorKind;

use super::looks::until;
use super::script::Ask;
use super::world::{World, settings};
use crate::domain::resource::SystemLimits;
use crate::domain::workflow::Step;
use crate::engine::EngineSettings;
use crate::engine::limits::{Common, Limits, Slot};
use crate::engine::pace::{CommonPaces, Pace};

const IMPATIENT: Duration = Duration::from_millis(20);

fn from<'a>(world: &'a World, node: &'a str) -> Common<'a> {
    Common {
        store: &*world.store,
        node,
    }
}

/// Row 29.
#[tokio::test]
async fn all_nodes_together_have_no_more_steps_under_way_than_a_system_allows() {
    let world = World::new().await;
    let (first, second) = (Limits::default(), Limits::default());
    let two = SystemLimits {
        concurrency: 2,
        ..SystemLimits::default()
    };
    let slot = async |limits: &Limits, node: &'static str| {
        let common = Some(from(&world, node));
        let slot = limits.slot("sys", &two, common, world.env.now(), IMPATIENT).await;
        match slot.unwrap() {
            Slot::Free(permit) => Some(permit),
            Slot::Later(_) => None,
        }
    };
    let here = slot(&first, "node-a").await.unwrap();
    let _there = slot(&second, "node-b").await.unwrap();
    assert!(slot(&first, "node-a").await.is_none(), "the other node has it");
    assert!(slot(&second, "node-b").await.is_none());
    drop(here);
    first.keep(from(&world, "node-a"), world.env.now()).await.unwrap();
    assert!(slot(&second, "node-b").await.is_some(), "it was given back");
}

/// Row 29.
#[tokio::test]
async fn all_nodes_together_make_no_more_calls_than_a_system_allows() {
    let world = World::new().await;
    world.clock.hold();
    let paces = ["node-a", "node-b"].map(|node| {
        let from = CommonPaces {
            store: Arc::clone(&world.store),
            node: node.to_owned(),
        };
        Pace::common("sys", 10, from).unwrap()
    });
    let mut calls = 0;
    for turn in 0..100 {
        calls += u32::from(paces[turn % 2].take(Duration::ZERO).await.is_ok());
    }
    assert!((1..=10).contains(&calls), "{calls} calls in one instant");
}

/// Row 29. One node finds out that the system does not answer, and the other one does not have to.
#[tokio::test(flavor = "multi_thread")]
async fn a_system_that_fails_for_one_node_is_left_alone_by_the_others() {
    let world = World::new().await;
    let (other, limits) = (Limits::default(), SystemLimits::default());
    let ask = async || {
        let common = Some(from(&world, "node-b"));
        other
            .slot("sys", &limits, common, world.env.now(), IMPATIENT)
            .await
            .unwrap()
    };
    assert!(matches!(ask().await, Slot::Free(_)), "nothing is known of it so far");
    for _ in 0..40 {
        world.steps.ask(Step::Precheck, Ask::Fail(ErrorKind::Transient));
    }
    for number in 0..5 {
        world.due(&format!("app-{number}"), SignedDuration::from_hours(1)).await;
    }
    let settings = EngineSettings {
        take_over_at_start: false,
        ..settings()
    };
    let engine = world.start_with(Arc::clone(&world.store), settings).await;
    until("the other node has heard of it", || async {
        other.keep(from(&world, "node-b"), world.env.now()).await.unwrap();
        matches!(ask().await, Slot::Later(at) if at > world.env.now() + SignedDuration::from_secs(1)).then_some(())
    })
    .await;
    engine.shutdown().await;
}
