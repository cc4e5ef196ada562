//! A second try at a death that could not be proven: the credential is refused by then, and will never be seen alive again.

use keyfall_sdk::Strategy;
use serde_json::json;

use super::{Bench, Driven, Live};
use crate::domain::workflow::{Outcome, RunKind, RunPlan};

/// Revoked while the system had no control identity, so that its refusals proved nothing.
async fn unproven() -> (Bench, Live, Driven) {
    let bench = Bench::new(Strategy::DualSlot, json!({})).await;
    let live = bench.provision("app").await;
    let control = bench.controls.held();
    bench.controls.hold(None);
    let driven = bench
        .drive(bench.plan(RunKind::Revoke, std::slice::from_ref(&live), None))
        .await;
    bench.controls.hold(control);
    assert!(
        matches!(driven.outcome(), Some(Outcome::Unprovable { .. })),
        "{}",
        driven.text()
    );
    assert!(!bench.accepted(&live));
    (bench, live, driven)
}

fn again(bench: &Bench, live: &Live) -> RunPlan {
    let mut plan = bench.plan(RunKind::Revoke, std::slice::from_ref(live), None);
    plan.old[0].ended_before = true;
    plan
}

#[tokio::test]
async fn a_second_try_proves_a_death_by_the_life_that_the_first_one_saw() {
    let (bench, live, first) = unproven().await;
    let mut plan = again(&bench, &live);
    plan.old[0].accepted = first.run.life_of(live.id, live.secret);
    let second = bench.drive(plan).await;
    assert_eq!(second.outcome(), Some(&Outcome::Completed), "{}", second.text());
    assert_eq!(second.receipt.as_ref().unwrap().credentials.len(), 1);
}

#[tokio::test]
async fn without_a_life_that_was_seen_a_second_try_proves_nothing_either() {
    let (bench, live, _) = unproven().await;
    let second = bench.drive(again(&bench, &live)).await;
    assert!(
        matches!(second.outcome(), Some(Outcome::Unprovable { .. })),
        "{}",
        second.text()
    );
}
