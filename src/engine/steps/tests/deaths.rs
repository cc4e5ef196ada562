//! Deaths that are lied about, late, half known or not to be proven at all: `dead` is said only of what the systems refused.

use jiff::SignedDuration;
use keyfall_connectors::demo::{Faults, Flapping, Lie, LockoutFault, VantageFaults};
use keyfall_sdk::{PrincipalStatus, Strategy};
use serde_json::json;

use super::{Bench, Driven, Live, VANTAGES, fresh};
use crate::domain::actor::Actor;
use crate::domain::proof::Grade;
use crate::domain::workflow::{Death, Outcome, RunKind, Step, forward_steps};

/// Rotates on one account, with the provider's faults set right before the revocation.
async fn rotate_under(faults: Faults) -> (Bench, Live, Driven) {
    let bench = Bench::new(Strategy::DualSlot, json!({})).await;
    let old = bench.provision("app").await;
    let plan = bench.plan(RunKind::Rotate, std::slice::from_ref(&old), Some(old.principal.clone()));
    let mut driven = bench.drive_until(plan, Step::RevokeOld).await;
    bench.provider.set_faults(faults);
    bench.finish(&mut driven).await;
    (bench, old, driven)
}

fn at_replica(faults: VantageFaults) -> Faults {
    Faults {
        vantages: [("replica".to_owned(), faults)].into(),
        ..Faults::default()
    }
}

#[tokio::test]
async fn a_provider_that_says_revoked_and_honours_the_key_is_caught() {
    let (bench, old, driven) = rotate_under(Faults {
        revoke_lies: Some(Lie::Forever),
        ..Faults::default()
    })
    .await;
    assert!(bench.accepted(&old), "the oracle: it is alive");
    assert!(
        matches!(driven.outcome(), Some(Outcome::AliveAfterRevoke { .. })),
        "{}",
        driven.text()
    );
}

/// Row 26.
#[tokio::test]
async fn honouring_inside_the_settling_window_is_settling() {
    let (bench, old, driven) = rotate_under(Faults {
        revoke_lies: Some(Lie::ForMs(12_000)),
        ..Faults::default()
    })
    .await;
    assert!(!bench.accepted(&old));
    assert_eq!(driven.outcome(), Some(&Outcome::Completed), "{}", driven.text());
    let rounds = &driven.run.progress(old.id).unwrap().rounds;
    assert!(
        rounds.iter().any(|round| round.old.is_accepted()),
        "it was seen alive first"
    );
}

/// Row 26.
#[tokio::test]
async fn a_replica_that_never_learns_keeps_the_credential_alive() {
    let faults = VantageFaults {
        stops_learning: true,
        ..VantageFaults::default()
    };
    let (_, _, driven) = rotate_under(at_replica(faults)).await;
    assert!(
        matches!(driven.outcome(), Some(Outcome::AliveAfterRevoke { .. })),
        "{}",
        driven.text()
    );
}

/// Row 26.
#[tokio::test]
async fn one_late_node_behind_a_vantage_is_no_proof() {
    let faults = VantageFaults {
        flapping: Some(Flapping {
            every: 2,
            lag_ms: 3_600_000,
        }),
        ..VantageFaults::default()
    };
    let (_, old, driven) = rotate_under(at_replica(faults)).await;
    assert_ne!(driven.outcome(), Some(&Outcome::Completed), "{}", driven.text());
    assert!(!matches!(driven.run.deaths().get(&old.id), Some(Death::Proven { .. })));
}

/// Row 18.
#[tokio::test]
async fn proving_spends_at_most_half_of_what_locks_the_account() {
    let lockout = json!({ "lockout": { "failures": 4, "windowMs": 60_000 } });
    let bench = Bench::new(Strategy::DualSlot, json!({ "faults": lockout })).await;
    let old = bench.provision("app").await;
    let mut plan = bench.plan(RunKind::Rotate, std::slice::from_ref(&old), Some(old.principal.clone()));
    plan.proof.give_up_after = SignedDuration::from_mins(20);
    let driven = bench
        .drive_with(plan, |_, _| {
            let account = bench.provider.account("app").unwrap();
            assert!(account.failures.len() <= 2, "no more than half of the threshold");
            assert_eq!(account.status(), PrincipalStatus::Enabled);
        })
        .await;
    assert_eq!(driven.outcome(), Some(&Outcome::Completed), "{}", driven.text());
}

#[tokio::test]
async fn a_restart_forgets_no_refused_login_of_the_new_credential() {
    let lockout = json!({ "lockout": { "failures": 4, "windowMs": 60_000 } });
    let bench = Bench::new(Strategy::DualSlot, json!({ "faults": lockout })).await;
    let old = bench.provision("app").await;
    bench.advance(SignedDuration::from_mins(10));
    let late = || VantageFaults {
        lag_ms: 150_000,
        ..VantageFaults::default()
    };
    let vantages = VANTAGES.map(|name| (name.to_owned(), late())).into();
    bench.provider.change_faults(|faults| faults.vantages = vantages);
    let mut plan = bench.plan(RunKind::Rotate, std::slice::from_ref(&old), Some(old.principal.clone()));
    plan.proof.settling = SignedDuration::from_mins(5);
    plan.proof.give_up_after = SignedDuration::from_mins(30);
    let mut most = 0;
    bench
        .drive_with(plan, |_, _| {
            bench.steps.refusals.forget();
            let account = bench.provider.account("app").unwrap();
            assert_eq!(account.status(), PrincipalStatus::Enabled);
            most = most.max(account.failures.len());
        })
        .await;
    assert_eq!(most, 2, "half of the threshold is used, and no more");
}

#[tokio::test]
async fn a_proof_is_not_given_up_before_the_rounds_that_the_budget_delays() {
    let lockout = json!({ "lockout": { "failures": 4, "windowMs": 60_000 } });
    let bench = Bench::new(Strategy::DualSlot, json!({ "faults": lockout })).await;
    let old = bench.provision("app").await;
    let mut plan = bench.plan(RunKind::Rotate, std::slice::from_ref(&old), Some(old.principal.clone()));
    plan.proof.give_up_after = SignedDuration::from_secs(1);
    let driven = bench.drive(plan).await;
    assert_eq!(driven.outcome(), Some(&Outcome::Completed), "{}", driven.text());
}

#[tokio::test]
async fn a_budget_that_never_suffices_ends_unprovable_and_locks_nothing() {
    let faults = Faults {
        lockout: Some(LockoutFault {
            failures: 3,
            window_ms: 60_000,
        }),
        ..Faults::default()
    };
    let bench = Bench::new(Strategy::DualSlot, json!({ "faults": faults })).await;
    let old = bench.provision("app").await;
    let plan = bench.plan(RunKind::Rotate, std::slice::from_ref(&old), Some(old.principal.clone()));
    let driven = bench.drive(plan).await;
    assert!(
        matches!(driven.outcome(), Some(Outcome::Unprovable { .. })),
        "{}",
        driven.text()
    );
    assert_eq!(bench.provider.account("app").unwrap().failures.len(), 0);
}

/// Row 25.
#[tokio::test]
async fn a_disabled_account_refuses_any_secret_and_proves_nothing() {
    let bench = Bench::new(Strategy::DualSlot, json!({})).await;
    let live = bench.provision("app").await;
    let plan = bench.plan(RunKind::Revoke, std::slice::from_ref(&live), None);
    let mut driven = bench.drive_until(plan, Step::ProveDead).await;
    bench
        .provider
        .change_faults(|faults| faults.disabled_looks_refused = true);
    bench.suspend(&live.principal).await;
    bench.finish(&mut driven).await;
    assert!(
        matches!(driven.outcome(), Some(Outcome::Unprovable { .. })),
        "{}",
        driven.text()
    );
}

#[tokio::test]
async fn a_secret_that_is_not_ours_dies_at_best_unprovable() {
    let bench = Bench::new(Strategy::DualSlot, json!({})).await;
    let live = bench.provision("app").await;
    bench.forget_secret(live.secret);
    let driven = bench
        .drive(bench.plan(RunKind::Revoke, std::slice::from_ref(&live), None))
        .await;
    let expected = Some(Grade::E3);
    assert!(
        matches!(driven.outcome(), Some(Outcome::Unprovable { best, .. }) if *best == expected),
        "{}",
        driven.text()
    );
}

#[tokio::test]
async fn bytes_that_were_never_accepted_prove_no_death() {
    let bench = Bench::new(Strategy::DualSlot, json!({})).await;
    let mut live = bench.provision("app").await;
    live.secret = bench.draw();
    let driven = bench
        .drive(bench.plan(RunKind::Revoke, std::slice::from_ref(&live), None))
        .await;
    assert!(
        matches!(driven.outcome(), Some(Outcome::Unprovable { .. })),
        "{}",
        driven.text()
    );
}

/// Row 25.
#[tokio::test]
async fn without_a_positive_control_there_is_no_proof() {
    let bench = Bench::new(Strategy::DualSlot, json!({})).await;
    let live = bench.provision("app").await;
    let plan = bench.plan(RunKind::Revoke, std::slice::from_ref(&live), None);
    bench.controls.hold(None);
    let driven = bench.drive(plan).await;
    assert!(
        matches!(driven.outcome(), Some(Outcome::Unprovable { .. })),
        "{}",
        driven.text()
    );
}

#[tokio::test]
async fn a_control_that_comes_alive_during_the_proof_is_used() {
    let bench = Bench::new(Strategy::DualSlot, json!({})).await;
    let live = bench.provision("app").await;
    let control = bench.controls.held();
    bench.controls.hold(None);
    let plan = bench.plan(RunKind::Revoke, std::slice::from_ref(&live), None);
    let mut tried = 0;
    let driven = bench
        .drive_with(plan, |_, step| {
            if step == Step::ProveDead {
                tried += 1;
            }
            if tried == 3 {
                bench.controls.hold(control.clone());
            }
        })
        .await;
    assert!(tried > 3, "{}", driven.text());
    assert_eq!(driven.outcome(), Some(&Outcome::Completed), "{}", driven.text());
}

#[tokio::test]
async fn going_past_the_proof_by_hand_is_not_completed() {
    let bench = Bench::new(Strategy::DualSlot, json!({})).await;
    let live = bench.provision("app").await;
    let plan = bench.plan(RunKind::Revoke, std::slice::from_ref(&live), None);
    let mut driven = bench.drive_until(plan, Step::ProveDead).await;
    bench.resume_by_hand(&mut driven, Step::ProveDead);
    bench.finish(&mut driven).await;
    assert!(
        matches!(driven.outcome(), Some(Outcome::Unprovable { .. })),
        "{}",
        driven.text()
    );
}

#[tokio::test]
async fn the_receipt_of_a_run_in_which_a_person_declared_any_step_done_verifies() {
    let kinds = [
        (RunKind::Decommission, Strategy::DualSlot),
        (RunKind::Rotate, Strategy::DualSlot),
        (RunKind::Rotate, Strategy::AlternatingAccounts),
        (RunKind::Rotate, Strategy::InPlace),
        (RunKind::Revoke, Strategy::DualSlot),
    ];
    for (kind, strategy) in kinds {
        let mut number = 0;
        loop {
            let bench = Bench::new(strategy, json!({})).await;
            let live = bench.provision("app_a").await;
            let account = match strategy {
                Strategy::AlternatingAccounts => fresh("app_b"),
                _ => live.principal.clone(),
            };
            let new = (kind == RunKind::Rotate).then_some(account);
            let plan = bench.plan(kind, std::slice::from_ref(&live), new);
            let Some(step) = forward_steps(&plan).get(number).copied() else {
                break;
            };
            number += 1;
            let mut driven = bench.drive_until(plan, step).await;
            if driven.run.refusal_to_resume(&Actor::Engine).is_some() {
                continue;
            }
            bench.resume_by_hand(&mut driven, step);
            // Every receipt is put to the verifier's rule where the run closes.
            bench.finish(&mut driven).await;
            let Some(outcome) = driven.outcome() else { continue };
            let receipt = driven.receipt.as_ref().unwrap();
            assert_eq!(receipt.outcome, *outcome);
            let declared: Vec<_> = receipt
                .by_hand
                .iter()
                .map(|one| (one.step, one.reason.as_str()))
                .collect();
            assert_eq!(declared, [(step, "test")], "{kind:?}");
            let is_revocation = step == Step::RevokeOld;
            assert!(is_revocation || *outcome != Outcome::Completed, "{kind:?} {step:?}");
        }
    }
}
