//! What one answer is worth: a provider that says once what is not so, or what nobody can read, moves no run to a wrong end.

use std::time::Duration;

use keyfall_connectors::demo::{Fault, FaultRule, Faults, Operation, destination};
use keyfall_sdk::{PrincipalStatus, Strategy};
use serde_json::json;

use super::{Bench, Driven, Live};
use crate::domain::actor::Actor;
use crate::domain::workflow::{EventBody, Outcome, RunKind, Step};
use crate::engine::report::PerformSteps as _;

async fn dual(options: serde_json::Value) -> (Bench, Live) {
    let bench = Bench::new(Strategy::DualSlot, options).await;
    let live = bench.provision("app").await;
    (bench, live)
}

/// A rotation, right before this step.
async fn rotating(bench: &Bench, old: &Live, step: Step) -> Driven {
    let plan = bench.plan(RunKind::Rotate, std::slice::from_ref(old), Some(old.principal.clone()));
    bench.drive_until(plan, step).await
}

/// A decommission, right before this step.
async fn ending(bench: &Bench, live: &Live, step: Step) -> Driven {
    let plan = bench.plan(RunKind::Decommission, std::slice::from_ref(live), None);
    bench.drive_until(plan, step).await
}

/// The next call of an operation.
fn next(bench: &Bench, operation: Operation, fault: Fault) {
    let nth = bench.provider.calls(operation) + 1;
    let rule = FaultRule::nth(operation, nth, fault);
    bench.provider.change_faults(|faults| faults.rules = vec![rule]);
}

#[tokio::test]
async fn one_answer_that_cannot_be_read_costs_no_proof_of_death() {
    let (bench, old) = dual(json!({})).await;
    let mut driven = rotating(&bench, &old, Step::Baseline).await;
    next(&bench, Operation::Probe, Fault::Garbage);
    bench.finish(&mut driven).await;
    assert_eq!(driven.outcome(), Some(&Outcome::Completed), "{}", driven.text());
}

#[tokio::test]
async fn an_account_that_was_shown_is_not_gone_because_its_deletion_finds_nothing() {
    let (bench, live) = dual(json!({})).await;
    let mut driven = ending(&bench, &live, Step::DeleteAccount).await;
    next(&bench, Operation::Delete, Fault::NotFound);
    bench.finish(&mut driven).await;
    assert_eq!(driven.outcome(), Some(&Outcome::Completed), "{}", driven.text());
    assert!(bench.provider.account("app").is_none(), "{}", driven.text());
}

#[tokio::test]
async fn nothing_is_taken_back_over_an_account_that_stays_disabled() {
    let (bench, live) = dual(json!({})).await;
    let mut driven = ending(&bench, &live, Step::StripGrants).await;
    next(&bench, Operation::Resume, Fault::NotFound);
    let cancel = |by, reason| EventBody::CancelRequested { by, reason };
    driven.push(bench.now(), cancel(Actor::Engine, "it is needed".to_owned()));
    bench.finish(&mut driven).await;
    if driven.stuck_reason().is_some() {
        let reason = "the system was asked again".to_owned();
        driven.push(
            bench.now(),
            EventBody::Retried {
                by: Actor::Engine,
                reason,
            },
        );
        bench.finish(&mut driven).await;
    }
    assert!(
        matches!(driven.outcome(), Some(Outcome::Unwound { .. })),
        "{}",
        driven.text()
    );
    let account = bench.provider.account("app").unwrap();
    assert_eq!(account.status(), PrincipalStatus::Enabled, "{}", driven.text());
}

#[tokio::test]
async fn what_an_answer_is_worth_is_said_by_the_system_and_not_by_its_kind() {
    for (class, is_recorded_at_once) in [("once", true), ("repeatable", false)] {
        let (bench, old) = dual(json!({ "issueClass": class })).await;
        let driven = rotating(&bench, &old, Step::IssueNew).await;
        let at_once = bench.steps.must_record_at_once(&driven.run, Step::IssueNew);
        assert_eq!(at_once, is_recorded_at_once, "{class}");
    }
}

/// The old secret is on its way back to the place already, and lands between the two comparisons.
#[tokio::test(start_paused = true)]
async fn a_place_is_compared_twice_before_it_is_called_somebody_elses() {
    const LATE: u64 = 100;
    let (bench, old) = dual(json!({})).await;
    let mut driven = rotating(&bench, &old, Step::AwaitUptake).await;
    let by = Actor::Engine;
    driven.push(
        bench.now(),
        EventBody::CancelRequested {
            by,
            reason: "test".to_owned(),
        },
    );
    let stop = &mut |_: &_, step| {
        if step == Step::RestoreDelivery {
            super::Turn::Stop
        } else {
            super::Turn::Go
        }
    };
    bench.go(&mut driven, stop).await;
    let rule = FaultRule {
        principal: Some(bench.slot.clone()),
        ..FaultRule::always(Operation::Confirm, Fault::LateReply(LATE))
    };
    let faults = Faults {
        rules: vec![rule],
        ..Faults::default()
    };
    destination("demo").set_faults(faults);
    let landing = async {
        tokio::time::advance(Duration::from_millis(LATE / 2)).await;
        bench.write_over(old.secret).await;
    };
    tokio::join!(bench.finish(&mut driven), landing);
    assert!(
        matches!(driven.outcome(), Some(Outcome::Unwound { .. })),
        "{}",
        driven.text()
    );
}
