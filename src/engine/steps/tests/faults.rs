//! Lost replies, crashes, foreign hands and ways back: after each of them the provider's truth is what it ought to be.

use keyfall_connectors::demo::{self, Fault, FaultRule, Operation, Uptake};
use keyfall_sdk::Strategy;
use serde_json::json;

use super::{Bench, Live, Turn, fresh};
use crate::domain::actor::Actor;
use crate::domain::workflow::{EventBody, Outcome, Path, RunKind, RunPlan, Step};

async fn dual() -> (Bench, Live) {
    let bench = Bench::new(Strategy::DualSlot, json!({})).await;
    let live = bench.provision("app").await;
    (bench, live)
}

fn rotation(bench: &Bench, old: &Live) -> RunPlan {
    bench.plan(RunKind::Rotate, std::slice::from_ref(old), Some(old.principal.clone()))
}

/// Row 8.
#[tokio::test]
async fn each_step_may_be_done_twice() {
    for strategy in [Strategy::DualSlot, Strategy::AlternatingAccounts, Strategy::InPlace] {
        for kind in [
            RunKind::Rotate,
            RunKind::EmergencyRotate,
            RunKind::Revoke,
            RunKind::Decommission,
        ] {
            let bench = Bench::new(strategy, json!({})).await;
            let old = bench.provision("app_a").await;
            let account = match strategy {
                Strategy::AlternatingAccounts => fresh("app_b"),
                _ => old.principal.clone(),
            };
            let renews = matches!(kind, RunKind::Rotate | RunKind::EmergencyRotate);
            let plan = bench.plan(kind, std::slice::from_ref(&old), renews.then_some(account));
            let mut crashed = Vec::new();
            let mut driven = bench.open(plan);
            bench
                .go(&mut driven, &mut |_, step| {
                    if crashed.contains(&step) {
                        return Turn::Go;
                    }
                    crashed.push(step);
                    Turn::Crash
                })
                .await;
            assert_eq!(
                driven.outcome(),
                Some(&Outcome::Completed),
                "{strategy:?} {kind:?}: {}",
                driven.text()
            );
            let honoured = bench.provider.honoured_keys();
            let live = honoured.iter().filter(|(name, _)| name.starts_with("app")).count();
            assert_eq!(live, usize::from(renews), "{strategy:?} {kind:?}: {honoured:?}");
        }
    }
}

#[tokio::test]
async fn a_rotation_is_taken_back_from_every_step_before_the_point_of_no_return() {
    for strategy in [Strategy::DualSlot, Strategy::AlternatingAccounts] {
        for stop in [
            Step::Precheck,
            Step::Baseline,
            Step::IssueNew,
            Step::ProveNew,
            Step::Deliver,
            Step::AwaitUptake,
            Step::Promote,
            Step::AwaitOverlap,
            Step::RevokeOld,
        ] {
            for crash in [false, true] {
                if crash && stop == Step::RevokeOld {
                    continue;
                }
                taken_back(strategy, stop, crash).await;
            }
        }
    }
}

/// `crash`: the step had its effect, and nothing of it was recorded but that it was begun.
async fn taken_back(strategy: Strategy, stop: Step, crash: bool) {
    let bench = Bench::new(strategy, json!({})).await;
    let old = bench.provision("app_a").await;
    let account = match strategy {
        Strategy::AlternatingAccounts => fresh("app_b"),
        _ => old.principal.clone(),
    };
    let plan = bench.plan(RunKind::Rotate, std::slice::from_ref(&old), Some(account));
    let new = plan.new.as_ref().unwrap().secret;
    let mut driven = bench.open(plan);
    let mut crashed = false;
    bench
        .go(&mut driven, &mut |run, step| {
            if run.path() == Path::Unwinding || step != stop {
                return Turn::Go;
            }
            if crash && !crashed {
                crashed = true;
                return Turn::Crash;
            }
            Turn::Unwind
        })
        .await;
    let told = format!("{strategy:?} {stop:?} crash={crash}: {}", driven.text());
    assert!(matches!(driven.outcome(), Some(Outcome::Unwound { .. })), "{told}");
    assert!(bench.accepted(&old), "{told}");
    let secret = bench.secret(new);
    let accepted = |name: &str| bench.provider.accepts(name, &secret, "primary");
    assert!(!accepted("app_a") && !accepted("app_b"), "{told}");
    assert!(bench.provider.account("app_b").is_none(), "{told}");
    let held = demo::destination("demo").read(&bench.slot).unwrap();
    assert!(held.matches(&bench.secret(old.secret)), "{told}");
    assert!(!driven.text().contains(secret.expose_secret_str().unwrap()));
}

#[tokio::test]
async fn a_provision_that_is_taken_back_leaves_no_account_and_no_delivery() {
    for stop in [
        Step::ProveNew,
        Step::Deliver,
        Step::AwaitUptake,
        Step::Promote,
        Step::ReadBack,
    ] {
        let bench = Bench::new(Strategy::DualSlot, json!({})).await;
        let mut driven = bench.open(bench.plan(RunKind::Provision, &[], Some(fresh("app"))));
        bench
            .go(&mut driven, &mut |run, step| {
                if run.path() == Path::Forward && step == stop {
                    Turn::Unwind
                } else {
                    Turn::Go
                }
            })
            .await;
        let told = format!("{stop:?}: {}", driven.text());
        assert!(bench.provider.account("app").is_none(), "{told}");
        assert!(demo::destination("demo").read(&bench.slot).is_none(), "{told}");
        assert!(matches!(driven.outcome(), Some(Outcome::Unwound { .. })), "{told}");
    }
}

/// Rows 5, 21.
#[tokio::test]
async fn lost_replies_and_silence_leave_one_key() {
    for fault in [Fault::LostReply, Fault::Garbage, Fault::Hang, Fault::Transient] {
        for operation in [Operation::Issue, Operation::Revoke, Operation::EndSessions] {
            let (bench, old) = dual().await;
            let nth = bench.provider.calls(operation) + 1;
            bench
                .provider
                .change_faults(|faults| faults.rules = vec![FaultRule::nth(operation, nth, fault)]);
            let driven = bench.drive(rotation(&bench, &old)).await;
            assert_eq!(
                driven.outcome(),
                Some(&Outcome::Completed),
                "{fault:?} {operation:?}: {}",
                driven.text()
            );
            assert_eq!(bench.provider.account("app").unwrap().live_keys().count(), 1);
        }
    }
}

#[tokio::test]
async fn an_issue_that_does_not_work_is_taken_back() {
    let (bench, old) = dual().await;
    bench.provider.change_faults(|faults| faults.issue_lies = true);
    let driven = bench.drive(rotation(&bench, &old)).await;
    assert!(
        matches!(driven.outcome(), Some(Outcome::Unprovable { .. })),
        "{}",
        driven.text()
    );
    assert_eq!(driven.run.path(), Path::Unwinding);
    assert!(bench.accepted(&old));
    assert_eq!(bench.provider.account("app").unwrap().live_keys().count(), 1);
}

/// Row 15.
#[tokio::test]
async fn a_consumer_that_never_switches_keeps_the_old_credential() {
    let (bench, old) = dual().await;
    let plan = rotation(&bench, &old);
    let consumer = plan.consumers[0].name.clone();
    demo::destination("demo").set_consumer(&consumer, Uptake::Never);
    let driven = bench.drive(plan).await;
    assert!(driven.stuck_reason().unwrap().contains(&consumer), "{}", driven.text());
    assert!(bench.accepted(&old));
}

/// Row 9.
#[tokio::test]
async fn keys_that_nobody_recorded_are_named_and_left_alone() {
    let (bench, old) = dual().await;
    let foreign = bench.draw();
    let key = bench.provider.plant_key("app", &bench.secret(foreign)).unwrap();
    let driven = bench.drive(rotation(&bench, &old)).await;
    let reason = driven.stuck_reason().unwrap();
    assert!(reason.contains(&key.0) && reason.contains(&old.key_id.0), "{reason}");
    assert_eq!(bench.provider.account("app").unwrap().live_keys().count(), 2);
}

/// Row 22.
#[tokio::test]
async fn a_credential_that_somebody_else_replaced_stops_the_rotation() {
    let (bench, old) = dual().await;
    let foreign = bench.draw();
    bench.provider.plant_account("app", &bench.secret(foreign), &[]);
    let driven = bench.drive(rotation(&bench, &old)).await;
    assert!(
        driven.stuck_reason().unwrap().contains("another one"),
        "{}",
        driven.text()
    );
    assert_eq!(bench.provider.account("app").unwrap().live_keys().count(), 1);
}

#[tokio::test]
async fn provisioning_never_takes_over_an_account() {
    let (bench, old) = dual().await;
    let driven = bench
        .drive(bench.plan(RunKind::Provision, &[], Some(fresh("app"))))
        .await;
    assert!(
        driven.stuck_reason().unwrap().contains("exists already"),
        "{}",
        driven.text()
    );
    assert!(bench.accepted(&old));
}

/// Row 14.
#[tokio::test]
async fn a_changed_endpoint_gets_no_secret() {
    let (bench, old) = dual().await;
    let mut driven = bench.drive_until(rotation(&bench, &old), Step::IssueNew).await;
    bench.change_manifest(|manifest| manifest.vantages[0].host = "elsewhere".to_owned());
    let calls = bench.provider.calls(Operation::Any);
    bench.finish(&mut driven).await;
    assert!(driven.stuck_reason().unwrap().contains("approved"), "{}", driven.text());
    assert_eq!(bench.provider.calls(Operation::Any), calls);
}

#[tokio::test]
async fn a_run_does_not_close_on_an_account_without_the_approved_rights() {
    let (bench, old) = dual().await;
    let mut plan = rotation(&bench, &old);
    plan.access = serde_json::json!({ "grants": ["read", "write"] });
    let account = old.principal.name.clone();
    let mut driven = bench.drive_until(plan, Step::ReadBack).await;
    assert!(bench.provider.plant_grants(&account, &["read"]));
    bench.finish(&mut driven).await;
    assert_eq!(driven.run.step(), Some(Step::ReadBack), "{}", driven.text());
    assert!(
        driven.stuck_reason().unwrap().contains("may not write"),
        "{}",
        driven.text()
    );

    assert!(bench.provider.plant_grants(&account, &["read", "write"]));
    let (by, reason) = (Actor::Engine, "brought back by hand".to_owned());
    driven.push(bench.now(), EventBody::Retried { by, reason });
    bench.finish(&mut driven).await;
    assert_eq!(driven.outcome(), Some(&Outcome::Completed), "{}", driven.text());
}

#[tokio::test]
async fn an_account_that_reappears_keeps_a_decommission_open() {
    let (bench, old) = dual().await;
    let plan = bench.plan(RunKind::Decommission, std::slice::from_ref(&old), None);
    let mut driven = bench.drive_until(plan, Step::ReadBack).await;
    let again = bench.draw();
    let account = bench.provider.plant_account("app", &bench.secret(again), &[]);
    bench.finish(&mut driven).await;
    assert_eq!(driven.outcome(), Some(&Outcome::Completed), "{}", driven.text());
    assert!(driven.text().contains(&account.immutable_id), "the namesake is told of");
}

/// Row 24.
#[tokio::test]
async fn no_exception_and_no_step_done_by_hand_takes_the_new_one_from_consumers_that_are_on_it() {
    let (bench, old) = dual().await;
    let mut plan = rotation(&bench, &old);
    plan.exception = Some("the old one is known to strangers".to_owned());
    let consumer = plan.consumers[0].name.clone();
    let mut driven = bench.drive_until(plan, Step::RevokeOld).await;
    let new = driven.new_live();
    bench.forget_secret(old.secret);
    let cause = "told to".to_owned();
    driven.push(bench.now(), EventBody::Unwinding { cause });
    bench.finish(&mut driven).await;
    assert_eq!(driven.run.step(), Some(Step::RestoreDelivery), "{}", driven.text());
    let (by, reason) = (Actor::Engine, "put back by hand".to_owned());
    driven.push(bench.now(), EventBody::Resumed { by, reason });
    bench.finish(&mut driven).await;
    assert_eq!(driven.run.step(), Some(Step::AwaitReturn), "{}", driven.text());
    assert!(driven.stuck_reason().unwrap().contains(&consumer), "{}", driven.text());
    assert!(bench.accepted(&new));
}

/// Row 12.
#[tokio::test]
async fn what_somebody_else_wrote_meanwhile_is_not_written_over_on_the_way_back() {
    for kind in [RunKind::Rotate, RunKind::Provision] {
        let (bench, old) = dual().await;
        let plan = match kind {
            RunKind::Rotate => rotation(&bench, &old),
            _ => bench.plan(kind, &[], Some(fresh("other"))),
        };
        let mut driven = bench.drive_until(plan, Step::Promote).await;
        let theirs = bench.draw();
        bench.write_over(theirs).await;
        let cause = "told to".to_owned();
        driven.push(bench.now(), EventBody::Unwinding { cause });
        bench.finish(&mut driven).await;
        assert_eq!(driven.run.step(), Some(Step::RestoreDelivery), "{}", driven.text());
        assert!(driven.stuck_reason().unwrap().contains("place"), "{}", driven.text());
        let held = demo::destination("demo").read(&bench.slot).unwrap();
        assert!(held.matches(&bench.secret(theirs)), "{}", driven.text());
    }
}

#[tokio::test]
async fn a_place_that_the_delivery_never_came_to_is_left_as_it_was() {
    let (bench, old) = dual().await;
    let theirs = bench.draw();
    bench.write_over(theirs).await;
    let mut driven = bench.drive_until(rotation(&bench, &old), Step::Deliver).await;
    let intent = serde_json::Value::Null;
    let (step, attempt, deadline) = (Step::Deliver, 1, bench.now());
    let started = EventBody::Started {
        step,
        attempt,
        deadline,
        intent,
    };
    driven.push(bench.now(), started);
    let cause = "the destination does not answer".to_owned();
    driven.push(bench.now(), EventBody::Unwinding { cause });
    bench
        .go(&mut driven, &mut |_, step| {
            if step == Step::AwaitReturn {
                Turn::Stop
            } else {
                Turn::Go
            }
        })
        .await;
    assert_eq!(driven.run.step(), Some(Step::AwaitReturn), "{}", driven.text());
    let held = demo::destination("demo").read(&bench.slot).unwrap();
    assert!(held.matches(&bench.secret(theirs)), "{}", driven.text());
}

#[tokio::test]
async fn a_password_that_was_changed_by_hand_is_replaced_by_the_emergency_that_the_run_advises() {
    let bench = Bench::new(Strategy::AlternatingAccounts, json!({})).await;
    let old = bench.provision("app_a").await;
    let theirs = bench.change_password(&old.principal, &old.key_id).await;
    let plan = |kind| bench.plan(kind, std::slice::from_ref(&old), Some(fresh("app_b")));
    let stuck = bench.drive(plan(RunKind::Rotate)).await;
    assert!(
        stuck.stuck_reason().unwrap().contains("recorded credential"),
        "{}",
        stuck.text()
    );
    assert!(
        stuck.text().contains("keyfall rotate app --emergency"),
        "{}",
        stuck.text()
    );
    assert!(!stuck.text().contains("take the account over"), "{}", stuck.text());

    let driven = bench.drive(plan(RunKind::EmergencyRotate)).await;
    // It was dead before this run could see it alive: that is for a revocation with the life of an earlier run.
    assert!(
        matches!(driven.outcome(), Some(Outcome::Unprovable { .. })),
        "{}",
        driven.text()
    );
    assert!(bench.accepted(&driven.new_live()) && !bench.accepted(&old));
    let account = bench.provider.account("app_a").unwrap();
    assert_eq!(
        account.live_keys().count(),
        1,
        "what somebody else put there is theirs (P5): {theirs}"
    );
}
