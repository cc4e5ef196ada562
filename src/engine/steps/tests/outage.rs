//! Systems and consumers that do not answer for a while. What consumers have moved to is not taken from them for that.

use jiff::SignedDuration;
use keyfall_connectors::demo::{Fault, FaultRule, Faults, Operation};
use keyfall_sdk::Strategy;
use serde_json::json;

use super::{Bench, Driven, Live, Turn, fresh};
use crate::domain::resource::SeenBy;
use crate::domain::workflow::{Outcome, Path, RunKind, Step};

fn down(bench: &Bench) {
    let unreachable = |operation| FaultRule::always(operation, Fault::Transient);
    bench.provider.set_faults(Faults {
        rules: vec![unreachable(Operation::Read), unreachable(Operation::CountSessions)],
        ..Faults::default()
    });
}

/// A rotation right before this step, on a bench whose system is down from then on.
async fn begun(stop_before: Step) -> (Bench, Live, Driven) {
    let bench = Bench::new(Strategy::AlternatingAccounts, json!({})).await;
    let old = bench.provision("app_a").await;
    let mut plan = bench.plan(RunKind::Rotate, std::slice::from_ref(&old), Some(fresh("app_b")));
    if stop_before == Step::AwaitUptake {
        plan.consumers[0].seen_by = SeenBy::Sessions;
        plan.timing.uptake_timeout = SignedDuration::from_hours(4);
    }
    let driven = bench.drive_until(plan, stop_before).await;
    down(&bench);
    (bench, old, driven)
}

#[tokio::test]
async fn a_restart_of_the_system_takes_back_no_rotation_that_was_delivered() {
    for step in [Step::AwaitUptake, Step::RevokeOld] {
        let (bench, old, mut driven) = begun(step).await;
        let began_at = bench.now();
        let new = driven.new_live();
        bench
            .go(&mut driven, &mut |_, _| {
                if bench.now().duration_since(began_at) > SignedDuration::from_secs(30) {
                    bench.provider.set_faults(Faults::default());
                    bench
                        .provider
                        .open_session("app_b", &bench.secret(new.secret), "primary");
                }
                Turn::Go
            })
            .await;
        assert_eq!(
            driven.outcome(),
            Some(&Outcome::Completed),
            "{step:?}: {}",
            driven.text()
        );
        assert!(!bench.accepted(&old) && bench.accepted(&new));
    }
}

#[tokio::test]
async fn a_long_outage_asks_a_person_who_can_still_take_the_rotation_back() {
    let (bench, old, mut driven) = begun(Step::RevokeOld).await;
    let began_at = bench.now();
    bench.finish(&mut driven).await;
    assert!(driven.stuck_reason().is_some(), "{}", driven.text());
    assert_eq!(
        (driven.run.path(), driven.run.step()),
        (Path::Forward, Some(Step::RevokeOld))
    );
    let waited = bench.now().duration_since(began_at);
    assert!(waited > SignedDuration::from_mins(5), "{waited}");
    assert!(bench.accepted(&old) && bench.accepted(&driven.new_live()));

    bench.provider.set_faults(Faults::default());
    bench.take_back(&mut driven, "as the run advises").await;
    assert!(bench.accepted(&old) && !bench.accepted(&driven.new_live()));
}

#[tokio::test]
async fn consumers_are_not_asked_without_a_pause_whatever_the_policy_says() {
    let bench = Bench::new(Strategy::AlternatingAccounts, json!({})).await;
    let old = bench.provision("app_a").await;
    let mut plan = bench.plan(RunKind::Rotate, std::slice::from_ref(&old), Some(fresh("app_b")));
    plan.consumers[0].seen_by = SeenBy::Sessions;
    plan.timing.uptake_interval = SignedDuration::ZERO;
    let driven = bench.drive(plan).await;
    assert_eq!(driven.run.step(), Some(Step::AwaitUptake));
    assert!(
        driven.stuck_reason().is_some() && driven.events.len() < 120,
        "{}",
        driven.events.len()
    );
}

#[tokio::test]
async fn what_nobody_has_yet_is_taken_back_soon() {
    let (bench, old, mut driven) = begun(Step::Precheck).await;
    bench.finish(&mut driven).await;
    assert!(
        matches!(driven.outcome(), Some(Outcome::Unwound { .. })),
        "{}",
        driven.text()
    );
    assert!(bench.accepted(&old));
}
