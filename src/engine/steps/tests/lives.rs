//! Whole lives on an honest provider: each kind of run, from its first step to its end.

use std::cell::Cell;

use keyfall_connectors::demo::{Faults, Lie};
use keyfall_sdk::Strategy;
use serde_json::json;

use super::{Bench, Live, Turn, fresh};
use crate::domain::workflow::{Death, EventBody, Outcome, RunKind, Step, StepOutput};

async fn rotated(bench: &Bench, old: &Live, account: keyfall_sdk::PrincipalRef, kind: RunKind) -> Live {
    let driven = bench
        .drive(bench.plan(kind, std::slice::from_ref(old), Some(account)))
        .await;
    assert_eq!(driven.outcome(), Some(&Outcome::Completed), "{}", driven.text());
    let new = driven.new_live();
    assert!(!bench.accepted(old), "the old credential must be refused");
    assert!(bench.accepted(&new));
    assert!(matches!(driven.run.deaths().get(&old.id), Some(Death::Proven { .. })));
    assert_eq!(driven.receipt.as_ref().unwrap().credentials.len(), 1);
    let read = keyfall_connectors::demo::destination("demo").read(&bench.slot).unwrap();
    assert!(read.matches(&bench.secret(new.secret)), "consumers read the new secret");
    for live in [old, &new] {
        let secret = bench.secret(live.secret);
        assert!(
            !driven.text().contains(secret.expose_secret_str().unwrap()),
            "no secret in the log"
        );
    }
    new
}

#[tokio::test]
async fn a_provisioned_account_logs_in_and_its_secret_is_delivered() {
    let bench = Bench::new(Strategy::DualSlot, json!({})).await;
    let live = bench.provision("app").await;
    assert!(bench.accepted(&live));
    let account = bench.provider.account("app").unwrap();
    assert_eq!(account.grants, ["read"]);
    assert_eq!(account.live_keys().count(), 1);
}

#[tokio::test]
async fn dual_slot_rotates_on_one_account() {
    let bench = Bench::new(Strategy::DualSlot, json!({})).await;
    let first = bench.provision("app").await;
    let second = rotated(&bench, &first, first.principal.clone(), RunKind::Rotate).await;
    let third = rotated(&bench, &second, second.principal.clone(), RunKind::Rotate).await;
    assert_eq!(first.principal, third.principal);
    assert_eq!(bench.provider.account("app").unwrap().live_keys().count(), 1);
}

/// Row 27.
#[tokio::test]
async fn sessions_opened_after_the_revocation_are_spared_on_a_shared_account() {
    let bench = Bench::new(Strategy::DualSlot, json!({})).await;
    let first = bench.provision("app").await;
    bench
        .provider
        .open_session("app", &bench.secret(first.secret), "primary");
    let plan = bench.plan(
        RunKind::Rotate,
        std::slice::from_ref(&first),
        Some(first.principal.clone()),
    );
    let new = plan.new.as_ref().unwrap().secret;
    let late = Cell::new(None);
    let driven = bench
        .drive_with(plan, |run, step| {
            if step == Step::EndSessions && run.attempts() == 0 {
                bench.advance(jiff::SignedDuration::from_secs(1));
                bench.provider.open_session("app", &bench.secret(new), "primary");
            }
            let rounds = run.progress(first.id).map_or(0, |progress| progress.rounds.len());
            if step == Step::ProveDead && rounds == 2 {
                late.set(bench.provider.open_session("app", &bench.secret(new), "primary"));
            }
        })
        .await;
    assert_eq!(driven.outcome(), Some(&Outcome::Completed), "{}", driven.text());
    assert_eq!(driven.run.sessions_ended().unwrap().ended, 1);
    // Until the old one was refused everywhere, nobody can tell whose session it is; later ones are on the new one.
    assert_eq!(bench.provider.account("app").unwrap().sessions.len(), 1);
    assert!(bench.provider.session_is_open("app", late.get().unwrap()));
}

/// Row 27.
#[tokio::test]
async fn who_gets_in_while_a_revocation_spreads_is_sent_away_behind_the_proof() {
    for (strategy, account, other) in [
        (Strategy::DualSlot, "app", "app"),
        (Strategy::AlternatingAccounts, "app_a", "app_b"),
    ] {
        let bench = Bench::new(strategy, json!({})).await;
        let old = bench.provision(account).await;
        let new = if account == other {
            old.principal.clone()
        } else {
            fresh(other)
        };
        let plan = bench.plan(RunKind::Rotate, std::slice::from_ref(&old), Some(new));
        let mut driven = bench.drive_until(plan, Step::RevokeOld).await;
        bench.provider.set_faults(Faults {
            revoke_lies: Some(Lie::ForMs(8_000)),
            ..Faults::default()
        });
        let late = Cell::new(None);
        bench
            .go(&mut driven, &mut |_, step| {
                if step == Step::ProveDead && late.get().is_none() {
                    let session = bench
                        .provider
                        .open_session(account, &bench.secret(old.secret), "primary");
                    late.set(Some(session.expect("the old secret still logs in")));
                }
                Turn::Go
            })
            .await;
        assert_eq!(driven.outcome(), Some(&Outcome::Completed), "{}", driven.text());
        assert!(
            !bench.provider.session_is_open(account, late.get().unwrap()),
            "{}",
            driven.text()
        );
    }
}

#[tokio::test]
async fn alternating_accounts_swap_and_come_back() {
    let bench = Bench::new(Strategy::AlternatingAccounts, json!({})).await;
    let first = bench.provision("app_a").await;
    let second = rotated(&bench, &first, fresh("app_b"), RunKind::Rotate).await;
    let idle = bench.provider.account("app_a").unwrap();
    assert_eq!(idle.status(), keyfall_sdk::PrincipalStatus::Disabled);
    assert_eq!(idle.live_keys().count(), 0);
    let third = rotated(&bench, &second, first.principal.clone(), RunKind::Rotate).await;
    assert_eq!(third.principal, first.principal);
    assert_eq!(
        bench.provider.account("app_a").unwrap().status(),
        keyfall_sdk::PrincipalStatus::Enabled
    );
}

#[tokio::test]
async fn in_place_replaces_the_only_value() {
    let bench = Bench::new(Strategy::InPlace, json!({})).await;
    let first = bench.provision("app").await;
    rotated(&bench, &first, first.principal.clone(), RunKind::Rotate).await;
}

#[tokio::test]
async fn an_emergency_waits_for_nobody() {
    let bench = Bench::new(Strategy::AlternatingAccounts, json!({})).await;
    let first = bench.provision("app_a").await;
    rotated(&bench, &first, fresh("app_b"), RunKind::EmergencyRotate).await;
}

#[tokio::test]
async fn a_revoked_credential_is_proven_dead_against_the_control_identity() {
    let bench = Bench::new(Strategy::DualSlot, json!({})).await;
    let live = bench.provision("app").await;
    let driven = bench
        .drive(bench.plan(RunKind::Revoke, std::slice::from_ref(&live), None))
        .await;
    assert_eq!(driven.outcome(), Some(&Outcome::Completed), "{}", driven.text());
    assert!(!bench.accepted(&live));
}

#[tokio::test]
async fn a_decommission_leaves_nothing_downstream() {
    let bench = Bench::new(Strategy::AlternatingAccounts, json!({})).await;
    let first = bench.provision("app_a").await;
    let second = rotated(&bench, &first, fresh("app_b"), RunKind::Rotate).await;
    let mut plan = bench.plan(RunKind::Decommission, std::slice::from_ref(&second), None);
    plan.accounts = vec![first.principal.clone(), second.principal.clone()];
    let driven = bench.drive(plan).await;
    assert_eq!(driven.outcome(), Some(&Outcome::Completed), "{}", driven.text());
    assert!(bench.provider.account("app_a").is_none());
    assert!(bench.provider.account("app_b").is_none());
    assert!(
        keyfall_connectors::demo::destination("demo")
            .read(&bench.slot)
            .is_none()
    );
    assert_eq!(driven.run.stripped(), ["read"]);
    assert!(driven.run.after().unwrap().is_absent());
}

#[tokio::test]
async fn a_decommission_does_not_take_a_strangers_credential_with_it() {
    let bench = Bench::new(Strategy::DualSlot, json!({})).await;
    let live = bench.provision("app").await;
    let strangers = bench.draw();
    bench.provider.plant_key("app", &bench.secret(strangers)).unwrap();
    let plan = bench.plan(RunKind::Decommission, std::slice::from_ref(&live), None);
    let driven = bench.drive(plan).await;
    assert!(driven.outcome().is_none(), "{}", driven.text());
    assert!(driven.text().contains("nobody recorded"), "{}", driven.text());
    assert!(bench.accepted(&live));
}

/// Row 28.
#[tokio::test]
async fn a_cancelled_decommission_gives_the_account_back() {
    let bench = Bench::new(Strategy::DualSlot, json!({})).await;
    let live = bench.provision("app").await;
    let plan = bench.plan(RunKind::Decommission, std::slice::from_ref(&live), None);
    let mut driven = bench.drive_until(plan, Step::Listen).await;
    assert!(!bench.accepted(&live));
    driven.push(
        bench.now(),
        EventBody::Unwinding {
            cause: "a scream".to_owned(),
        },
    );
    bench.finish(&mut driven).await;
    assert!(matches!(driven.outcome(), Some(Outcome::Unwound { .. })));
    assert!(bench.accepted(&live));
}

#[tokio::test]
async fn adopting_reads_and_changes_nothing() {
    let bench = Bench::new(Strategy::DualSlot, json!({})).await;
    let secret = bench.draw();
    let account = bench.provider.plant_account("legacy", &bench.secret(secret), &["read"]);
    let mut live = foreign(&account, secret);
    let mut plan = bench.plan(RunKind::Adopt, std::slice::from_ref(&live), None);
    plan.old[0].secret = None;
    let driven = bench.drive(plan).await;
    assert_eq!(driven.outcome(), Some(&Outcome::Completed), "{}", driven.text());
    assert_eq!(bench.provider.account("legacy").unwrap().live_keys().count(), 1);

    let taken = bench
        .drive(bench.plan(RunKind::TakeOver, std::slice::from_ref(&live), None))
        .await;
    assert_eq!(taken.outcome(), Some(&Outcome::Completed), "{}", taken.text());

    live.secret = bench.draw();
    let wrong = bench
        .drive(bench.plan(RunKind::TakeOver, std::slice::from_ref(&live), None))
        .await;
    assert!(
        wrong.stuck_reason().unwrap().contains("not accepted"),
        "{}",
        wrong.text()
    );
}

fn foreign(account: &keyfall_connectors::demo::Account, secret: crate::domain::ids::SecretId) -> Live {
    Live {
        id: crate::domain::ids::CredentialId::from_uuid(super::uuid()),
        secret,
        principal: keyfall_sdk::PrincipalRef {
            name: account.name.clone(),
            immutable_id: Some(account.immutable_id.clone()),
        },
        key_id: account.live_keys().next().unwrap().id.clone(),
    }
}

#[tokio::test]
async fn a_take_over_records_the_key_of_the_given_secret_and_never_just_the_first() {
    let bench = Bench::new(Strategy::DualSlot, json!({})).await;
    let (first, second) = (bench.draw(), bench.draw());
    let account = bench.provider.plant_account("legacy", &bench.secret(first), &["read"]);
    let wanted = bench.provider.plant_key("legacy", &bench.secret(second)).unwrap();
    let live = foreign(&account, second);
    assert_ne!(live.key_id, wanted);
    let recorded = |driven: &super::Driven| {
        let keys = driven.events.iter().find_map(|event| match &event.body {
            EventBody::Succeeded {
                output: StepOutput::Adopted { keys, .. },
                ..
            } => Some(keys.get(&live.id).cloned()),
            _ => None,
        });
        keys.unwrap_or_else(|| panic!("nothing was registered: {}", driven.text()))
    };
    for (secret, key) in [(Some(second), Some(wanted)), (None, None)] {
        let mut plan = bench.plan(RunKind::TakeOver, std::slice::from_ref(&live), None);
        plan.old[0].key_id = None;
        plan.old[0].secret = secret;
        let driven = bench.drive(plan).await;
        assert_eq!(driven.outcome(), Some(&Outcome::Completed), "{}", driven.text());
        assert_eq!(recorded(&driven), key);
    }
}
