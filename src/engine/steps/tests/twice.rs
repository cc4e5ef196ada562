//! One issue call, and what may come of it downstream: a list that is late, a reply that is lost where nobody can be asked, a call that arrives twice.
//! None of them leaves a second credential that nobody knows of.

use jiff::SignedDuration;
use keyfall_connectors::demo::{Fault, FaultRule, Operation};
use keyfall_sdk::Strategy;
use serde_json::json;

use super::{Bench, Live};
use crate::domain::workflow::{Outcome, RunKind, RunPlan, Step};

async fn dual(options: serde_json::Value) -> (Bench, Live) {
    let bench = Bench::new(Strategy::DualSlot, options).await;
    let live = bench.provision("app").await;
    (bench, live)
}

fn rotation(bench: &Bench, old: &Live) -> RunPlan {
    bench.plan(RunKind::Rotate, std::slice::from_ref(old), Some(old.principal.clone()))
}

fn keys(bench: &Bench) -> usize {
    bench.provider.account("app").unwrap().live_keys().count()
}

/// A rule about the next call of an operation.
fn next(bench: &Bench, operation: Operation, fault: Fault) {
    let nth = bench.provider.calls(operation) + 1;
    let rule = FaultRule::nth(operation, nth, fault);
    bench.provider.change_faults(|faults| faults.rules = vec![rule]);
}

/// Row 11.
#[tokio::test]
async fn a_late_list_does_not_make_a_second_credential() {
    for settling in [0, 90] {
        let (bench, old) = dual(json!({ "faults": { "slots": 4 } })).await;
        // Later than the grace of a call alone, where the system says that it needs so long.
        let late = if settling > 0 { 60_000 } else { 5_000 };
        bench.provider.change_faults(|faults| faults.list_lag_ms = late);
        bench.advance(SignedDuration::from_secs(120));
        let mut plan = rotation(&bench, &old);
        plan.proof.settling = SignedDuration::from_secs(settling);
        let mut driven = bench.drive_until(plan, Step::IssueNew).await;
        next(&bench, Operation::Issue, Fault::LostReply);
        let calls = bench.provider.calls(Operation::Issue);
        bench
            .go(&mut driven, &mut |_, step| {
                if step == Step::Deliver {
                    super::Turn::Stop
                } else {
                    super::Turn::Go
                }
            })
            .await;
        assert_eq!(bench.provider.calls(Operation::Issue), calls + 1, "{}", driven.text());
        assert_eq!(keys(&bench), 2, "{}", driven.text());
        bench.provider.change_faults(|faults| faults.list_lag_ms = 0);
        bench.finish(&mut driven).await;
        assert_eq!(driven.outcome(), Some(&Outcome::Completed), "{}", driven.text());
        assert_eq!(keys(&bench), 1);
    }
}

/// Row 11.
#[tokio::test]
async fn on_the_way_back_a_late_list_is_not_taken_for_absence() {
    for settling in [0, 90] {
        let (bench, old) = dual(json!({ "faults": { "slots": 4 } })).await;
        let late = if settling > 0 { 60_000 } else { 5_000 };
        bench.provider.change_faults(|faults| faults.list_lag_ms = late);
        bench.advance(SignedDuration::from_secs(120));
        let mut plan = rotation(&bench, &old);
        plan.proof.settling = SignedDuration::from_secs(settling);
        let mut driven = bench.drive_until(plan, Step::IssueNew).await;
        next(&bench, Operation::Issue, Fault::LostReply);
        let mut is_sent = false;
        let provider = &bench.provider;
        bench
            .go(&mut driven, &mut |run, step| {
                if run.issued().is_some() {
                    provider.change_faults(|faults| faults.list_lag_ms = 0);
                }
                match (step, std::mem::replace(&mut is_sent, true)) {
                    (Step::IssueNew, true) => super::Turn::Unwind,
                    _ => super::Turn::Go,
                }
            })
            .await;
        assert!(
            matches!(driven.outcome(), Some(Outcome::Unwound { .. })),
            "{}",
            driven.text()
        );
        assert_eq!(
            keys(&bench),
            1,
            "what the unanswered call made is left: {}",
            driven.text()
        );
        assert!(bench.accepted(&old));
    }
}

/// Row 7.
#[tokio::test]
async fn a_lost_reply_of_a_system_that_cannot_be_asked_is_handed_over_and_not_repeated() {
    let (bench, old) = dual(json!({ "issueClass": "once", "faults": { "slots": 4 } })).await;
    next(&bench, Operation::Issue, Fault::LostReply);
    let calls = bench.provider.calls(Operation::Issue);
    let driven = bench.drive(rotation(&bench, &old)).await;
    assert_eq!(driven.run.step(), Some(Step::IssueNew), "{}", driven.text());
    assert!(
        driven.stuck_reason().unwrap().contains("got no answer"),
        "{}",
        driven.text()
    );
    assert_eq!(
        bench.provider.calls(Operation::Issue),
        calls + 1,
        "the call was repeated"
    );
    // The person compares with what the account held before, which the intent says.
    let intents: Vec<String> = driven.events.iter().map(|event| format!("{:?}", event.body)).collect();
    let held_before = format!("{:?}", old.key_id.0);
    assert!(
        intents
            .iter()
            .any(|intent| intent.contains("keys_before") && intent.contains(&held_before))
    );
    assert!(bench.accepted(&old));
}

/// Row 10.
#[tokio::test]
async fn a_call_that_arrived_twice_stops_before_the_old_one_goes() {
    let (bench, old) = dual(json!({ "faults": { "slots": 4 } })).await;
    let mut driven = bench.drive_until(rotation(&bench, &old), Step::ProveNew).await;
    let new = driven.new_live();
    let twin = bench.provider.plant_key("app", &bench.secret(new.secret)).unwrap();
    bench.finish(&mut driven).await;
    let reason = driven.stuck_reason().unwrap();
    assert!(reason.contains(&twin.0) && reason.contains(&new.key_id.0), "{reason}");
    assert!(
        driven.run.may_be_cancelled() && bench.accepted(&old),
        "{}",
        driven.text()
    );
    assert!(bench.provider.take_key("app", &twin));
    bench.take_back(&mut driven, "in a test").await;
    assert_eq!(keys(&bench), 1, "{}", driven.text());
    assert!(bench.accepted(&old));
}
