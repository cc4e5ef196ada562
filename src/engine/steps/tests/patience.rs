//! What must be there before the old credential goes: the delivered bytes, every consumer, the end of the overlap.

use jiff::SignedDuration;
use keyfall_connectors::demo::{self, Uptake};
use keyfall_sdk::Strategy;
use serde_json::json;

use super::{Bench, Live, Turn};
use crate::domain::workflow::{ConsumerPlan, Outcome, RunKind, RunPlan, Step};

async fn dual() -> (Bench, Live, RunPlan) {
    let bench = Bench::new(Strategy::DualSlot, json!({})).await;
    let old = bench.provision("app").await;
    let plan = bench.plan(RunKind::Rotate, std::slice::from_ref(&old), Some(old.principal.clone()));
    (bench, old, plan)
}

/// Row 13.
#[tokio::test]
async fn a_delivery_that_does_not_read_back_keeps_the_old_credential() {
    let (bench, old, plan) = dual().await;
    demo::destination("demo").redact(&bench.slot);
    let driven = bench.drive(plan).await;
    assert_ne!(driven.outcome(), Some(&Outcome::Completed), "{}", driven.text());
    assert!(!driven.run.was_begun(Step::RevokeOld), "{}", driven.text());
    assert!(bench.accepted(&old));
}

/// Row 15.
#[tokio::test]
async fn one_consumer_of_two_is_not_all_of_them() {
    let (bench, old, mut plan) = dual().await;
    let prompt = plan.consumers[0].clone();
    let never = format!("never-{}", bench.slot);
    plan.consumers.push(ConsumerPlan {
        name: never.clone(),
        seen_by: prompt.seen_by,
    });
    demo::destination("demo").set_consumer(&never, Uptake::Never);
    let driven = bench.drive(plan).await;
    assert_eq!(driven.run.step(), Some(Step::AwaitUptake), "{}", driven.text());
    let reason = driven.stuck_reason().unwrap();
    assert!(reason.contains(&never) && !reason.contains(&prompt.name), "{reason}");
    assert!(bench.accepted(&old));
}

/// Row 16.
#[tokio::test]
async fn the_old_credential_lives_until_the_overlap_is_over() {
    let (bench, old, mut plan) = dual().await;
    plan.timing.overlap = SignedDuration::from_hours(2);
    let mut driven = bench.open(plan);
    let mut revoked_at = None;
    bench
        .go(&mut driven, &mut |_, step| {
            if step == Step::RevokeOld {
                revoked_at.get_or_insert(bench.now());
            }
            Turn::Go
        })
        .await;
    assert_eq!(driven.outcome(), Some(&Outcome::Completed), "{}", driven.text());
    let overlap = revoked_at.unwrap().duration_since(driven.run.promoted_at().unwrap());
    assert!(overlap >= SignedDuration::from_hours(2), "{overlap}");
    assert!(!bench.accepted(&old));
}
