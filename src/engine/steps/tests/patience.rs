//! What must be there before a credential goes: the delivered bytes, every consumer, the end of the overlap, and that it was seen alive.

use jiff::SignedDuration;
use keyfall_connectors::demo::{self, Faults, Uptake};
use keyfall_sdk::Strategy;
use serde_json::json;

use super::{Bench, Live, Turn};
use crate::domain::due::DueReason;
use crate::domain::workflow::{ConsumerPlan, Death, Outcome, RunKind, RunPlan, Step};

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

/// A proof spends more refused logins than the account may see in one window.
fn lockout() -> serde_json::Value {
    json!({ "faults": { "lockout": { "failures": 8, "windowMs": 600_000 } } })
}

/// Row 18. An account that has seen enough refused logins is not tried, and what was not tried is not ended: its death could not be proven.
#[tokio::test]
async fn what_may_not_be_tried_now_is_waited_for_and_proven() {
    let bench = Bench::new(Strategy::DualSlot, lockout()).await;
    let mut live = bench.provision("app").await;
    let mut waited = false;
    for _ in 0..3 {
        let plan = bench.plan(
            RunKind::Rotate,
            std::slice::from_ref(&live),
            Some(live.principal.clone()),
        );
        let driven = bench.drive(plan).await;
        assert_eq!(driven.outcome(), Some(&Outcome::Completed), "{}", driven.text());
        waited |= driven.text().contains("is tried before anything of it is ended");
        live = driven.new_live();
    }
    assert!(waited);
}

#[tokio::test]
async fn a_leaked_credential_is_ended_also_where_it_may_not_be_tried() {
    let bench = Bench::new(Strategy::DualSlot, lockout()).await;
    let mut live = bench.provision("app").await;
    let mut untried = 0;
    for _ in 0..3 {
        let mut plan = bench.plan(
            RunKind::Rotate,
            std::slice::from_ref(&live),
            Some(live.principal.clone()),
        );
        plan.reason = DueReason::Compromised;
        let driven = bench.drive(plan).await;
        assert!(
            !driven.text().contains("is tried before anything of it is ended"),
            "{}",
            driven.text()
        );
        untried += usize::from(matches!(driven.outcome(), Some(Outcome::Unprovable { .. })));
        assert!(!bench.accepted(&live));
        live = driven.new_live();
    }
    assert!(untried > 0);
}

/// No clear answer at the last look before a credential is taken back is no answer: it is asked for again while the credential lives.
#[tokio::test]
async fn what_is_taken_back_is_looked_at_again_where_the_last_look_said_nothing() {
    let (bench, _, plan) = dual().await;
    let silent: Faults = serde_json::from_value(
        json!({ "rules": [{ "operation": "probe", "vantage": "replica", "then": "transient" }] }),
    )
    .unwrap();
    let driven = bench
        .drive_with(plan, |run, step| match step {
            Step::ProveNew => bench.provider.set_faults(silent.clone()),
            Step::RevokeNew if run.attempts() == 1 => bench.provider.set_faults(Faults::default()),
            _ => {}
        })
        .await;
    assert!(
        matches!(driven.outcome(), Some(Outcome::Unwound { .. })),
        "{}",
        driven.text()
    );
    let deaths: Vec<_> = driven.run.deaths().values().collect();
    assert!(matches!(deaths[..], [Death::Proven { .. }]), "{deaths:?}");
}

#[tokio::test]
async fn a_new_credential_that_is_never_let_in_is_given_up_also_where_few_logins_may_be_refused() {
    for failures in [4, 10] {
        let lockout = json!({ "lockout": { "failures": failures, "windowMs": 8_000 } });
        let bench = Bench::new(Strategy::DualSlot, json!({ "faults": lockout })).await;
        let old = bench.provision("app").await;
        bench.provider.change_faults(|faults| faults.issue_lies = true);
        let plan = bench.plan(RunKind::Rotate, std::slice::from_ref(&old), Some(old.principal.clone()));
        let driven = bench.drive(plan).await;
        assert!(driven.run.unwind_cause().is_some(), "{}", driven.text());
        assert!(driven.outcome().is_some(), "{}", driven.text());
        assert!(bench.accepted(&old), "{failures}");
    }
}
