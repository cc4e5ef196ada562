//! The last look before the point of no return: what would stop a run behind it stops it in front of it, where a cancel still works.

use keyfall_sdk::Strategy;
use serde_json::json;

use super::{Bench, Driven, Live, fresh};
use crate::domain::actor::Actor;
use crate::domain::workflow::{EventBody, Outcome, RunKind, Step, StepOutput};

async fn begun(stop_before: Step) -> (Bench, Live, Driven) {
    let bench = Bench::new(Strategy::AlternatingAccounts, json!({})).await;
    let old = bench.provision("app_a").await;
    let plan = bench.plan(RunKind::Rotate, std::slice::from_ref(&old), Some(fresh("app_b")));
    let driven = bench.drive_until(plan, stop_before).await;
    (bench, old, driven)
}

fn rests_before_the_pivot(driven: &Driven) {
    assert_eq!(driven.run.step(), Some(Step::RevokeOld), "{}", driven.text());
    assert!(driven.stuck_reason().is_some(), "{}", driven.text());
    assert!(!driven.run.is_past_pivot(), "nothing of it was begun");
    assert!(driven.text().contains("take this run back"), "{}", driven.text());
}

async fn cancelled(bench: &Bench, driven: &mut Driven) {
    let (by, reason) = (Actor::Engine, "as the run advises".to_owned());
    driven.push(bench.now(), EventBody::CancelRequested { by, reason });
    bench.finish(driven).await;
}

/// Row 14.
#[tokio::test]
async fn endpoints_that_changed_stop_a_rotation_while_it_can_still_be_cancelled() {
    let (bench, old, mut driven) = begun(Step::RevokeOld).await;
    bench.change_manifest(|manifest| manifest.vantages[0].host = "elsewhere".to_owned());
    bench.finish(&mut driven).await;
    rests_before_the_pivot(&driven);
    bench.change_manifest(|manifest| manifest.vantages[0].host = "localhost".to_owned());
    cancelled(&bench, &mut driven).await;
    assert!(
        matches!(driven.outcome(), Some(Outcome::Unwound { .. })),
        "{}",
        driven.text()
    );
    assert!(bench.accepted(&old));
}

/// Row 17.
#[tokio::test]
async fn a_new_credential_that_was_never_let_in_stops_a_rotation_while_it_can_still_be_cancelled() {
    let (bench, old, mut driven) = begun(Step::ProveNew).await;
    let (step, output) = (Step::ProveNew, StepOutput::Nothing);
    driven.push(
        bench.now(),
        EventBody::Succeeded {
            step,
            seen: Vec::new(),
            output,
        },
    );
    bench.finish(&mut driven).await;
    rests_before_the_pivot(&driven);
    cancelled(&bench, &mut driven).await;
    assert!(
        matches!(driven.outcome(), Some(Outcome::Unwound { .. })),
        "{}",
        driven.text()
    );
    assert!(bench.accepted(&old));
}

#[tokio::test]
async fn a_new_credential_that_somebody_took_away_since_keeps_the_old_one() {
    for is_changed in [false, true] {
        let (bench, old, mut driven) = begun(Step::RevokeOld).await;
        let new = driven.new_live();
        if is_changed {
            bench.change_password(&new.principal, &new.key_id).await;
        } else {
            bench.suspend(&new.principal).await;
        }
        bench.finish(&mut driven).await;
        rests_before_the_pivot(&driven);
        assert!(bench.accepted(&old), "{}", driven.text());
    }
}

#[tokio::test]
async fn behind_the_point_of_no_return_nobody_is_told_to_cancel() {
    let (bench, _, mut driven) = begun(Step::EndSessions).await;
    bench.change_manifest(|manifest| manifest.vantages[0].host = "elsewhere".to_owned());
    bench.finish(&mut driven).await;
    assert!(driven.stuck_reason().is_some(), "{}", driven.text());
    assert!(!driven.text().contains("take this run back"), "{}", driven.text());
    bench.change_manifest(|manifest| manifest.vantages[0].host = "localhost".to_owned());
    let (by, reason) = (Actor::Engine, "put back".to_owned());
    driven.push(bench.now(), EventBody::Retried { by, reason });
    bench.finish(&mut driven).await;
    assert_eq!(driven.outcome(), Some(&Outcome::Completed), "{}", driven.text());
}
