//! An emergency that meets a rotation under way: nobody waits any more, and what the rotation made already is what stays.

use jiff::SignedDuration;
use keyfall_sdk::Strategy;
use serde_json::json;

use super::{Bench, Driven, Live, fresh};
use crate::domain::actor::Actor;
use crate::domain::resource::SeenBy;
use crate::domain::workflow::{
    Decision, EventBody, Hastened, Outcome, RunKind, RunPlan, RunStatus, Step, Trigger, decide,
};
use crate::engine::gate::{Barrier, toll};

fn hasten(bench: &Bench, driven: &mut Driven) {
    let hastened = Box::new(Hastened {
        by: Actor::Engine,
        approval: driven.run.plan().approval.clone(),
        reason: "found on a forum; may break: app".to_owned(),
    });
    driven.push(bench.now(), EventBody::Hastened { hastened });
}

async fn rotation(bench: &Bench) -> (Live, RunPlan) {
    let old = bench.provision("app_a").await;
    let mut plan = bench.plan(RunKind::Rotate, std::slice::from_ref(&old), Some(fresh("app_b")));
    plan.timing.overlap = SignedDuration::from_hours(24);
    (old, plan)
}

async fn ends_at_once(bench: &Bench, old: &Live, driven: &mut Driven) {
    let began_at = bench.now();
    hasten(bench, driven);
    bench.finish(driven).await;
    assert_eq!(driven.outcome(), Some(&Outcome::Completed), "{}", driven.text());
    assert!(!bench.accepted(old) && bench.accepted(&driven.new_live()));
    let took = bench.now().duration_since(began_at);
    assert!(took < SignedDuration::from_mins(5), "{took}");
    let exceptions = serde_json::to_string(&driven.receipt.as_ref().unwrap().exceptions).unwrap();
    assert!(
        exceptions.contains("break_glass") && exceptions.contains("found on a forum"),
        "{exceptions}"
    );
}

#[tokio::test]
async fn an_emergency_ends_the_overlap_of_a_rotation_that_is_under_way() {
    let bench = Bench::new(Strategy::AlternatingAccounts, json!({})).await;
    let (old, plan) = rotation(&bench).await;
    let mut driven = bench.drive_until(plan, Step::AwaitOverlap).await;
    let again = decide(&driven.run, bench.now());
    let Decision::Perform { step, attempt, .. } = again else {
        panic!("{again:?}")
    };
    bench.one(&mut driven, step, attempt, false).await;
    assert!(bench.accepted(&old));
    ends_at_once(&bench, &old, &mut driven).await;
}

#[tokio::test]
async fn an_emergency_goes_past_the_consumers_that_a_rotation_waits_for() {
    let bench = Bench::new(Strategy::AlternatingAccounts, json!({})).await;
    let (old, mut plan) = rotation(&bench).await;
    plan.consumers[0].seen_by = SeenBy::Sessions;
    let mut driven = bench.drive(plan).await;
    assert!(
        matches!(driven.run.status(), RunStatus::NeedsOperator { .. }),
        "{}",
        driven.text()
    );
    assert_eq!(driven.run.step(), Some(Step::AwaitUptake));
    ends_at_once(&bench, &old, &mut driven).await;
}

#[tokio::test]
async fn an_emergency_hastens_nothing_that_is_taken_back_or_revokes_already() {
    let bench = Bench::new(Strategy::AlternatingAccounts, json!({})).await;
    let (_, plan) = rotation(&bench).await;
    let mut driven = bench.drive_until(plan, Step::AwaitOverlap).await;
    assert!(driven.run.may_be_hastened());
    let cause = "told to".to_owned();
    driven.push(bench.now(), EventBody::Unwinding { cause });
    assert!(!driven.run.may_be_hastened());

    let bench = Bench::new(Strategy::AlternatingAccounts, json!({})).await;
    let (_, mut plan) = rotation(&bench).await;
    plan.timing.overlap = SignedDuration::ZERO;
    let driven = bench.drive_until(plan, Step::EndSessions).await;
    assert!(!driven.run.may_be_hastened());
}

#[tokio::test]
async fn a_breaker_that_is_open_holds_a_scheduled_rotation_and_no_emergency_made_of_it() {
    let bench = Bench::new(Strategy::AlternatingAccounts, json!({})).await;
    let (_, mut plan) = rotation(&bench).await;
    plan.trigger = Trigger::Schedule;
    let mut driven = bench.drive_until(plan, Step::AwaitOverlap).await;
    let is_held = |driven: &Driven| {
        let toll = toll(&driven.run, Step::RevokeOld, None, bench.now());
        toll.barriers.contains(&Barrier::Breaker)
    };
    assert!(is_held(&driven));
    hasten(&bench, &mut driven);
    assert!(!is_held(&driven));
}
