//! What somebody does to the systems behind Keyfall's back.

use std::time::Duration;

use keyfall_sdk::{CallContext, DeliverCall, ErrorKind, KeyId, PrincipalRef, RevokeCall, Strategy};
use serde_json::json;

use super::{Bench, Driven, Turn, fresh};
use crate::domain::ids::SecretId;
use crate::domain::workflow::{Outcome, Path, RunKind, Step, StepError, forward_steps};
use crate::engine::findings::{RUN_UNWOUND, UNPROVABLE, at_close};
use crate::engine::guard::GuardedConnector;
use crate::engine::manual::{approve_again, defect_step, manual_step, standstill_step};
use crate::store::Fact;

fn ctx() -> CallContext {
    CallContext {
        run: "by hand".to_owned(),
        step: "by hand".to_owned(),
        attempt: 1,
        idempotency_key: "by hand".to_owned(),
        time_left: Duration::from_secs(5),
    }
}

impl Bench {
    async fn system(&self) -> GuardedConnector {
        self.steps.systems.connected("demo").await.unwrap().0
    }

    /// Somebody disables the account.
    pub(super) async fn suspend(&self, principal: &PrincipalRef) {
        self.system().await.suspend(ctx(), principal.clone()).await.unwrap();
    }

    /// Somebody sets another password: the recorded key goes, another one comes.
    pub(super) async fn change_password(&self, principal: &PrincipalRef, key_id: &KeyId) -> SecretId {
        let call = RevokeCall {
            principal: principal.clone(),
            key_id: key_id.clone(),
        };
        self.system().await.revoke(ctx(), call).await.unwrap();
        let secret = self.draw();
        self.provider.plant_key(&principal.name, &self.secret(secret)).unwrap();
        secret
    }

    /// Somebody writes another secret where the workload reads.
    pub(super) async fn write_over(&self, secret: SecretId) {
        let place = self.steps.systems.destination("place", "demo-destination").unwrap();
        let call = DeliverCall {
            target: json!({ "slot": self.slot }),
            secret: self.secret(secret),
            fields: std::collections::BTreeMap::new(),
            version: "by hand".to_owned(),
        };
        place.deliver(ctx(), call).await.unwrap();
    }
}

#[tokio::test]
async fn a_step_that_was_taken_on_trust_leaves_a_finding_that_the_same_verb_clears() {
    let about = |facts: &[Fact]| -> Vec<String> {
        let of = |fact: &Fact| match fact {
            Fact::Finding(row) if row.kind == UNPROVABLE && row.subject == "app" => Some(row.text.clone()),
            Fact::FindingResolved { kind, subject, .. } if *kind == UNPROVABLE && subject == "app" => {
                Some("resolved".to_owned())
            }
            _ => None,
        };
        facts.iter().filter_map(of).collect()
    };
    let bench = Bench::new(Strategy::DualSlot, json!({})).await;
    let live = bench.provision("app_a").await;
    let plan = bench.plan(RunKind::Decommission, std::slice::from_ref(&live), None);
    let mut driven = bench.drive_until(plan, Step::Withdraw).await;
    bench.resume_by_hand(&mut driven, Step::Withdraw);
    bench.finish(&mut driven).await;
    let outcome = driven.outcome().unwrap();
    assert!(matches!(outcome, Outcome::Unprovable { .. }), "{}", driven.text());
    let raised = about(&at_close(&bench.steps.env, &driven.run, outcome, bench.now()));
    assert_eq!(raised.len(), 1, "{raised:?}");
    assert!(
        raised[0].contains("withdraw") && raised[0].contains("decommission app"),
        "{raised:?}"
    );
    assert!(!driven.run.steps().contains(&Step::Tombstone));

    // Everything is gone already; the run that finds it so buries the identity.
    let mut plan = bench.plan(RunKind::Decommission, &[], None);
    plan.accounts = vec![live.principal.clone()];
    let again = bench.drive(plan).await;
    assert_eq!(again.outcome(), Some(&Outcome::Completed), "{}", again.text());
    assert!(again.run.steps().contains(&Step::Tombstone));
    let cleared = about(&at_close(
        &bench.steps.env,
        &again.run,
        &Outcome::Completed,
        bench.now(),
    ));
    assert_eq!(cleared, ["resolved"]);
}

#[tokio::test]
async fn a_run_that_was_taken_back_says_that_the_old_credential_is_in_use_where_there_is_one() {
    let told = |bench: &Bench, driven: &Driven| -> String {
        let facts = at_close(&bench.steps.env, &driven.run, driven.outcome().unwrap(), bench.now());
        let text = facts.iter().find_map(|fact| match fact {
            Fact::Finding(row) if row.kind == RUN_UNWOUND => Some(row.text.clone()),
            _ => None,
        });
        text.unwrap()
    };
    let taken_back = |kind, at: Step| async move {
        let bench = Bench::new(Strategy::DualSlot, json!({})).await;
        let live = bench.provision("app_a").await;
        let (old, new) = match kind {
            RunKind::Provision => (Vec::new(), Some(fresh("other"))),
            RunKind::Rotate => (vec![live.clone()], Some(live.principal.clone())),
            _ => (vec![live.clone()], None),
        };
        let mut driven = bench.open(bench.plan(kind, &old, new));
        bench
            .go(&mut driven, &mut |run, step| {
                if step == at && run.path() == Path::Forward {
                    Turn::Unwind
                } else {
                    Turn::Go
                }
            })
            .await;
        told(&bench, &driven)
    };
    let in_use = "old credential is in use";
    assert!(taken_back(RunKind::Rotate, Step::RevokeOld).await.contains(in_use));
    for (kind, at) in [
        (RunKind::Rotate, Step::IssueNew),
        (RunKind::Provision, Step::ReadBack),
        (RunKind::Decommission, Step::Listen),
    ] {
        let text = taken_back(kind, at).await;
        assert!(!text.contains(in_use), "{kind:?}: {text}");
        assert_eq!(
            text.contains("applying its manifest again"),
            kind == RunKind::Provision,
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_rotation_in_place_of_an_account_that_somebody_deleted_can_be_taken_back() {
    let bench = Bench::new(Strategy::InPlace, json!({})).await;
    let old = bench.provision("app").await;
    let plan = bench.plan(RunKind::Rotate, std::slice::from_ref(&old), Some(old.principal.clone()));
    let mut driven = bench.drive_until(plan, Step::IssueNew).await;
    // The process dies before its call leaves, and somebody deletes the account meanwhile.
    bench.begin(&mut driven, Step::IssueNew, 1);
    bench
        .system()
        .await
        .delete_principal(ctx(), old.principal.clone())
        .await
        .unwrap();
    bench.one(&mut driven, Step::IssueNew, 2, true).await;
    assert!(!driven.run.may_be_cancelled(), "the call may still arrive");
    bench.finish(&mut driven).await;
    assert!(driven.stuck_reason().is_some(), "{}", driven.text());
    assert!(driven.run.may_be_cancelled(), "{}", driven.text());
    bench.take_back(&mut driven, "there is no account").await;
    assert!(driven.run.was_never_issued());
}

/// Row 37.
#[tokio::test]
async fn a_stuck_run_names_the_ways_on_that_there_are() {
    let error = StepError {
        kind: ErrorKind::Conflict,
        message: "no".to_owned(),
        code: None,
    };
    for (kind, strategy) in [
        (RunKind::Rotate, Strategy::DualSlot),
        (RunKind::Rotate, Strategy::InPlace),
        (RunKind::Decommission, Strategy::DualSlot),
    ] {
        let mut number = 0;
        loop {
            let bench = Bench::new(strategy, json!({})).await;
            let live = bench.provision("app_a").await;
            let new = (kind == RunKind::Rotate).then(|| live.principal.clone());
            let plan = bench.plan(kind, std::slice::from_ref(&live), new);
            let Some(step) = forward_steps(&plan).get(number).copied() else {
                break;
            };
            number += 1;
            let run = bench.drive_until(plan, step).await.run;
            let texts = [
                manual_step(&run, step, &error),
                approve_again(&run),
                standstill_step(&run, step),
                defect_step(&run, step),
            ];
            for text in texts {
                let names = |verb: &str| text.contains(&format!("{verb} {} --reason", run.id()));
                assert!(!names("resume") || run.may_be_resumed(), "{step:?}: {text}");
                assert!(!names("cancel") || run.may_be_cancelled(), "{step:?}: {text}");
                assert!(names("retry") || names("cancel") || names("resume"), "{step:?}: {text}");
            }
        }
    }
}
