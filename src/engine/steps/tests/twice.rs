//! One issue call, and what may come of it downstream: a list that is late, a reply that is lost where nobody can be asked, a call that arrives twice.
//! None of them leaves a second credential that nobody knows of.

use jiff::SignedDuration;
use keyfall_connectors::demo::{Fault, FaultRule, Operation};
use keyfall_sdk::Strategy;
use serde_json::json;

use super::{Bench, Live, Turn};
use crate::domain::workflow::{EventBody, Outcome, RunKind, RunPlan, Step};
use crate::engine::report::PerformSteps;

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
                if step == Step::Deliver { Turn::Stop } else { Turn::Go }
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
                    (Step::IssueNew, true) => Turn::Unwind,
                    _ => Turn::Go,
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
async fn a_lost_reply_of_a_system_that_cannot_be_asked_leaves_a_twin_that_is_taken_away_before_another_is_made() {
    for keeps_markers in [true, false] {
        let options = json!({ "issueClass": "once", "keepsMarkers": keeps_markers, "faults": { "slots": 4 } });
        let (bench, old) = dual(options).await;
        next(&bench, Operation::Issue, Fault::LostReply);
        let calls = bench.provider.calls(Operation::Issue);
        let mut most = 0;
        let driven = bench
            .drive_with(rotation(&bench, &old), |_, _| most = most.max(keys(&bench)))
            .await;
        assert_eq!(driven.outcome(), Some(&Outcome::Completed), "{}", driven.text());
        assert_eq!(bench.provider.calls(Operation::Issue), calls + 2, "{}", driven.text());
        assert_eq!((keys(&bench), most), (1, 2), "{}", driven.text());
        assert!(bench.accepted(&driven.new_live()) && driven.text().contains("twin_gone"));
    }
}

/// Row 7.
#[tokio::test]
async fn a_system_whose_replies_are_always_lost_is_handed_over_behind_a_few_twins() {
    for keeps_markers in [true, false] {
        let options = json!({ "issueClass": "once", "keepsMarkers": keeps_markers, "faults": { "slots": 4 } });
        let (bench, old) = dual(options).await;
        let rule = FaultRule::always(Operation::Issue, Fault::LostReply);
        bench.provider.change_faults(|faults| faults.rules = vec![rule]);
        let calls = bench.provider.calls(Operation::Issue);
        let mut driven = bench.drive(rotation(&bench, &old)).await;
        let reason = driven.stuck_reason().unwrap_or_else(|| panic!("{}", driven.text()));
        assert!(reason.contains("go on leaving credentials"), "{reason}");
        assert_eq!(bench.provider.calls(Operation::Issue), calls + 4, "{}", driven.text());
        assert_eq!(keys(&bench), 2, "{}", driven.text());

        bench.take_back(&mut driven, "it does not answer").await;
        assert_eq!(keys(&bench), 1, "{}", driven.text());
        assert!(bench.accepted(&old));
    }
}

/// Row 7.
#[tokio::test]
async fn what_somebody_else_put_there_meanwhile_is_not_taken_for_a_twin() {
    for is_lost in [true, false] {
        let options = json!({ "issueClass": "once", "keepsMarkers": false, "faults": { "slots": 4 } });
        let (bench, old) = dual(options).await;
        let mut driven = bench.drive_until(rotation(&bench, &old), Step::IssueNew).await;
        let strangers = bench.provider.plant_key("app", &bench.secret(bench.draw())).unwrap();
        next(
            &bench,
            Operation::Issue,
            if is_lost { Fault::LostReply } else { Fault::Transient },
        );
        bench.finish(&mut driven).await;
        let reason = driven.stuck_reason().unwrap_or_else(|| panic!("{}", driven.text()));
        assert!(
            reason.contains("got no answer") && reason.contains(&strangers.0),
            "{reason}"
        );
        let account = bench.provider.account("app").unwrap();
        assert!(account.live_keys().any(|key| key.id == strangers));
        assert_eq!(keys(&bench), 2 + usize::from(is_lost), "{}", driven.text());
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
}

/// Row 7.
#[tokio::test]
async fn what_an_unanswered_call_left_is_found_by_its_mark_whatever_it_holds() {
    // A system may store other bytes than it was given.
    for is_taken_back in [false, true] {
        let (bench, old) = dual(json!({ "faults": { "slots": 4 } })).await;
        let mut driven = bench.drive_until(rotation(&bench, &old), Step::IssueNew).await;
        bench.provider.change_faults(|faults| faults.issue_lies = true);
        let mut has_died = false;
        bench
            .go(&mut driven, &mut |_, step| match step {
                _ if has_died => Turn::Stop,
                Step::IssueNew => {
                    has_died = true;
                    Turn::Crash
                }
                _ => Turn::Go,
            })
            .await;
        assert_eq!(keys(&bench), 2);
        bench.provider.change_faults(|faults| faults.issue_lies = false);
        if is_taken_back {
            let cause = "told to".to_owned();
            driven.push(bench.now(), EventBody::Unwinding { cause });
        }
        bench.finish(&mut driven).await;
        assert_eq!(keys(&bench), 1, "{}", driven.text());
        assert_eq!(bench.accepted(&old), is_taken_back, "{}", driven.text());
        assert!(driven.outcome().is_some(), "{}", driven.text());
    }
}

/// Rows 5, 24.
#[tokio::test]
async fn a_refused_issue_that_took_effect_in_place_is_gone_on_with() {
    for class in ["check_first", "repeatable", "once"] {
        let bench = Bench::new(Strategy::InPlace, json!({ "issueClass": class })).await;
        let old = bench.provision("app").await;
        bench.provider.change_faults(|faults| faults.list_lag_ms = 2_000);
        bench.advance(SignedDuration::from_secs(10));
        next(&bench, Operation::Issue, Fault::FalseRefusal);
        let calls = bench.provider.calls(Operation::Issue);
        let driven = bench.drive(rotation(&bench, &old)).await;
        assert_eq!(
            driven.outcome(),
            Some(&Outcome::Completed),
            "{class}: {}",
            driven.text()
        );
        assert!(bench.accepted(&driven.new_live()) && !bench.accepted(&old));
        assert_eq!((bench.provider.calls(Operation::Issue), keys(&bench)), (calls + 1, 1));
    }
}

/// Rows 4, 24.
#[tokio::test]
async fn a_refused_issue_that_changed_nothing_in_place_is_taken_back_and_the_old_value_stays() {
    for class in ["check_first", "repeatable", "once"] {
        let bench = Bench::new(Strategy::InPlace, json!({ "issueClass": class })).await;
        let old = bench.provision("app").await;
        let rule = FaultRule::always(Operation::Issue, Fault::Denied);
        bench.provider.change_faults(|faults| faults.rules = vec![rule]);
        let driven = bench.drive(rotation(&bench, &old)).await;
        let is_unwound = matches!(driven.outcome(), Some(Outcome::Unwound { .. }));
        assert!(is_unwound && bench.accepted(&old), "{class}: {}", driven.text());
        assert!(driven.run.was_never_issued(), "{class}");
    }
}

/// Row 10.
#[tokio::test]
async fn a_call_that_arrived_twice_leaves_one_credential_in_an_emergency_too() {
    for kind in [RunKind::Rotate, RunKind::EmergencyRotate] {
        let (bench, old) = dual(json!({ "faults": { "slots": 4 } })).await;
        let plan = bench.plan(kind, std::slice::from_ref(&old), Some(old.principal.clone()));
        let mut driven = bench.drive_until(plan, Step::ProveNew).await;
        let hold = crate::engine::lease::Hold::of_no_run();
        bench.steps.perform(&driven.run, Step::IssueNew, 1, false, hold).await;
        assert_eq!(keys(&bench), 3);
        bench
            .go(&mut driven, &mut |_, step| {
                if step == Step::EndSessions {
                    Turn::Stop
                } else {
                    Turn::Go
                }
            })
            .await;
        assert_eq!(keys(&bench), 1, "{kind:?}: {}", driven.text());
        bench.finish(&mut driven).await;
        assert_eq!(driven.outcome(), Some(&Outcome::Completed), "{}", driven.text());
        assert!(bench.accepted(&driven.new_live()) && !bench.accepted(&old));
    }
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
