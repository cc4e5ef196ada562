//! P6, P4: what a retired person's signature still allows (nothing), what is not taken over, and what a second try at a death knows.

use std::collections::BTreeMap;

use jiff::Timestamp;
use keyfall_sdk::{ProbeReading, Verdict};

use super::identities::MANIFESTS;
use super::world::World;
use crate::app::{AdoptAsk, AppError, Asked, RotateAsk};
use crate::domain::digest::Digest;
use crate::domain::due::DueReason;
use crate::domain::identity::{Credential, CredentialState, Identity, IdentityState};
use crate::domain::ids::{CredentialId, RunId};
use crate::domain::resource::{IdentityKind, Kind};
use crate::domain::workflow::{Event, EventBody, Observation, OldCredential, Run, RunKind, RunPlan, Step, StepOutput};
use crate::engine::opening;
use crate::store::{Committed, Fact, Page, RunFilter};

const POLICY: &str = "\
---
apiVersion: keyfall.dev/v1
kind: Policy
metadata: { name: daily }
spec:
  owner: team
  selector: { systems: [cache] }
  rotation: { every: 24h }
  autonomy: automatic
";

fn manifests() -> String {
    format!("{MANIFESTS}{POLICY}")
}

/// `worker` as its provisioning would have left it, with one credential.
async fn active(world: &World) -> (Identity, Credential) {
    world.apply(&manifests()).await;
    let worker = world.store.identity_named("worker").await.unwrap().unwrap();
    let run = world.store.open_run_of(worker.id).await.unwrap().unwrap();
    let stored = world.store.run(run).await.unwrap().unwrap();
    let credential = world.store.credentials_of(worker.id).await.unwrap().remove(0);
    world
        .put(vec![
            Fact::RunProgress {
                run,
                status: "completed".to_owned(),
                step: None,
                next_seq: stored.row.next_seq,
                wake_at: None,
                release: true,
            },
            Fact::CredentialState {
                id: credential.id,
                to: CredentialState::Issued,
            },
            Fact::CredentialState {
                id: credential.id,
                to: CredentialState::Active,
            },
            Fact::IdentityState {
                id: worker.id,
                to: IdentityState::Active,
            },
            Fact::IdentityCurrent {
                id: worker.id,
                credential: Some(credential.id),
            },
        ])
        .await;
    (worker, credential)
}

async fn retire(world: &World, name: &str) {
    let (id, at) = (world.caller(name).await.person, world.env.now());
    world.put(vec![Fact::PersonRetired { id, at }]).await;
}

#[tokio::test]
async fn a_policy_of_a_retired_person_allows_no_rotation_until_it_is_approved_again() {
    let world = World::new().await;
    active(&world).await;
    retire(&world, "bo").await;
    let ada = world.caller("ada").await;
    let asked = world.app.rotate(&ada, "worker", RotateAsk::default()).await.unwrap();
    assert!(
        matches!(asked, Asked::Plan(_)),
        "another person signs for it: {asked:?}"
    );
    let plan = world.plan(&manifests()).await.unwrap();
    assert!(!plan.empty, "the same manifest is approved again: {plan:?}");
    assert!(
        plan.consequences
            .iter()
            .any(|text| text.contains("bo, who approved it, has retired")),
        "{plan:?}"
    );
    assert_eq!(plan.runs.len() + plan.actions.len(), 0, "and nothing else: {plan:?}");
}

#[tokio::test]
async fn a_system_of_a_retired_person_is_approved_again_for_its_control_identity() {
    let mut world = World::new().await;
    world.apply(MANIFESTS).await;
    world.enrol("cy").await;
    retire(&world, "bo").await;
    let system = async || world.store.resource(Kind::System, "cache").await.unwrap().unwrap();
    let before = system().await;
    let plan = world.plan(MANIFESTS).await.unwrap();
    assert!(!plan.empty, "{plan:?}");
    let told = "system cache: bo, who approved it, has retired";
    assert!(plan.consequences.iter().any(|text| text.contains(told)), "{plan:?}");
    world.approve("cy", &plan).await.unwrap();
    let after = system().await;
    assert_eq!(after.spec, before.spec);
    assert_eq!(after.approved.unwrap().approvers[0].name, "cy");
    assert!(world.plan(MANIFESTS).await.unwrap().empty, "once is enough");
}

#[tokio::test]
async fn a_policy_of_people_who_are_there_is_not_approved_twice() {
    let world = World::new().await;
    active(&world).await;
    let plan = world.plan(&manifests()).await.unwrap();
    assert!(plan.empty, "{plan:?}");
    let ada = world.caller("ada").await;
    let asked = world.app.rotate(&ada, "worker", RotateAsk::default()).await.unwrap();
    assert!(matches!(asked, Asked::Run(_)), "{asked:?}");
}

#[tokio::test]
async fn a_rotation_that_would_start_at_once_is_refused_while_everything_is_frozen() {
    let world = World::new().await;
    let (worker, _) = active(&world).await;
    let ada = world.caller("ada").await;
    world.app.freeze(&ada, "incident".to_owned()).await.unwrap();
    let refused = world
        .app
        .rotate(&ada, "worker", RotateAsk::default())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), "frozen");
    assert!(refused.to_string().contains("ada (incident)"), "{refused}");
    assert_eq!(world.store.open_run_of(worker.id).await.unwrap(), None);
    let emergency = RotateAsk {
        reason: "leaked".to_owned(),
        emergency: true,
        ..RotateAsk::default()
    };
    let asked = world.app.rotate(&ada, "worker", emergency).await.unwrap();
    assert!(matches!(asked, Asked::Plan(_)), "asking takes nothing away: {asked:?}");
}

#[tokio::test]
async fn an_account_whose_identity_has_a_current_credential_is_not_taken_over() {
    let world = World::new().await;
    active(&world).await;
    let ask = AdoptAsk {
        name: "worker".to_owned(),
        system: "cache".to_owned(),
        account: "worker".to_owned(),
        kind: IdentityKind::ServiceAccount,
        environment: "test".to_owned(),
        owner: "team".to_owned(),
        expires: "2099-01-01T00:00:00Z".parse().unwrap(),
        take_over: true,
        secret: None,
        reason: String::new(),
    };
    let refused = world.app.adopt(&world.caller("ada").await, ask).await;
    let Err(AppError::Invalid { problems }) = refused else {
        panic!("{refused:?}")
    };
    assert!(
        problems
            .iter()
            .any(|text| text.contains("current credential of its own")),
        "{problems:?}"
    );
}

#[tokio::test]
async fn a_second_revocation_is_planned_with_the_life_that_an_earlier_run_saw() {
    let world = World::new().await;
    let (worker, credential) = active(&world).await;
    let left = CredentialState::Unprovable {
        best: None,
        why: "test".to_owned(),
    };
    let mut known = world.store.credential(credential.id).await.unwrap().unwrap();
    known.state = left;
    let seen = seen_alive(&world, &worker, &known, None).await;
    let elsewhere = Credential {
        id: CredentialId::from_uuid(world.env.draw_uuid()),
        ..known.clone()
    };
    seen_alive(&world, &worker, &elsewhere, Some(Digest::of(b"elsewhere"))).await;
    let credentials = [known.clone(), elsewhere.clone()];
    let app = &world.app;
    let registered = crate::engine::landscape(&*world.store).await.unwrap();
    let lives = app.lives_of(&worker, &credentials, &registered).await.unwrap();
    assert_eq!(lives[&known.id].get("node-1"), Some(&seen));
    assert!(lives.get(&elsewhere.id).is_none_or(BTreeMap::is_empty), "{lives:?}");
}

/// The log of a revocation that saw the credential accepted and went no further. Answers when it was.
async fn seen_alive(
    world: &World,
    identity: &Identity,
    credential: &Credential,
    endpoints: Option<Digest>,
) -> Timestamp {
    let mut plan = plan_of_provisioning(world, identity).await;
    plan.run = RunId::from_uuid(world.env.draw_uuid());
    plan.kind = RunKind::Revoke;
    plan.new = None;
    plan.endpoint_digest = endpoints.unwrap_or(plan.endpoint_digest);
    plan.old = vec![OldCredential {
        id: credential.id,
        secret: credential.secret,
        principal: credential.principal.clone(),
        key_id: None,
        issued: true,
        ended_before: false,
        accepted: BTreeMap::new(),
    }];
    let run = plan.run;
    let opened = world.store.commit(opening(plan, None).unwrap()).await.unwrap();
    assert!(matches!(opened, Committed::Stored), "{opened:?}");
    let accepted = ProbeReading {
        verdict: Verdict::Accepted {
            principal: "worker".to_owned(),
        },
        endpoint: "here".to_owned(),
    };
    let tried = Observation::Tried {
        credential: credential.id,
        vantage: "node-1".to_owned(),
        reading: accepted,
    };
    let (step, output) = (Step::Precheck, StepOutput::Nothing);
    let seen = Vec::new();
    append(world, run, EventBody::Succeeded { step, seen, output }).await;
    let (step, seen, output) = (Step::Baseline, vec![tried], StepOutput::Nothing);
    append(world, run, EventBody::Succeeded { step, seen, output }).await;
    world.folded(run).await.progress(credential.id).unwrap().baseline["node-1"]
}

/// Leaves the run's row as that of a run that has closed.
async fn append(world: &World, run: RunId, body: EventBody) {
    let closed = |run: &Run, _: &Event| {
        vec![Fact::RunProgress {
            run: run.id(),
            status: "unprovable".to_owned(),
            step: None,
            next_seq: run.next_seq(),
            wake_at: None,
            release: true,
        }]
    };
    world.append(run, body, closed).await;
}

async fn plan_of_provisioning(world: &World, identity: &Identity) -> RunPlan {
    let filter = RunFilter {
        identity: Some(identity.id),
        ..RunFilter::default()
    };
    let rows = world.store.runs(&filter, Page::first(9)).await.unwrap();
    world.folded(rows.last().unwrap().id).await.plan().clone()
}

#[tokio::test]
async fn what_a_decommission_left_alive_can_still_be_ended() {
    for state in [IdentityState::Decommissioning, IdentityState::Decommissioned] {
        let world = World::new().await;
        let (worker, credential) = active(&world).await;
        let secret = credential.secret.unwrap();
        let (id, settling_until) = (credential.id, world.env.now());
        let since = settling_until;
        let to = [
            CredentialState::Revoking,
            CredentialState::Revoked { settling_until },
            CredentialState::AliveAfterRevoke { since },
        ];
        let states = to.map(|to| Fact::CredentialState { id, to });
        let (id, at) = (worker.id, world.env.now() + jiff::SignedDuration::from_hours(24));
        let current = Fact::IdentityCurrent { id, credential: None };
        let to = [IdentityState::Decommissioning, state];
        world.put(states.into_iter().chain([current]).collect()).await;
        world.put(to.map(|to| Fact::IdentityState { id, to }).into()).await;
        world.put(vec![Fact::SecretDestroyAt { id: secret, at }]).await;

        let ada = world.caller("ada").await;
        let (why, name) = ("it answers still".to_owned(), credential.id.to_string());
        let plan = match state {
            IdentityState::Decommissioning => world.app.decommission(&ada, "worker", why).await,
            _ => world.app.revoke(&ada, "worker", &name, why).await,
        };
        let applied = world.approve("bo", &plan.unwrap()).await.unwrap();
        let run: RunId = applied.runs[0].parse().unwrap();
        let plan = world.folded(run).await.plan().clone();
        assert!(plan.old[0].ended_before && plan.old[0].id == credential.id, "{plan:?}");
        let kept = world.store.secret(secret).await.unwrap().unwrap();
        assert_eq!(kept.destroy_at, None, "the run needs it");
    }
}

#[tokio::test]
async fn a_policy_that_changes_counts_the_settling_window_like_a_run_does() {
    let world = World::new().await;
    let (worker, credential) = active(&world).await;
    let slow = manifests()
        .replace("  tls: \"off\"\n", "  tls: \"off\"\n  settling: 2h\n")
        .replace("{ every: 24h }", "{ every: 24h, maxEffectiveAge: 24h }");
    world.apply(&slow).await;
    let (due, _) = world.store.identity(worker.id).await.unwrap().unwrap().due.unwrap();
    let hours = due.duration_since(credential.created_at).as_secs_f64() / 3600.0;
    assert!(hours < 22.0, "{hours}");
}

#[tokio::test]
async fn a_policy_that_brings_a_rotation_forward_is_its_reason_until_it_was_rotated() {
    let world = World::new().await;
    let (worker, _) = active(&world).await;
    let due_under = async |every: &str| {
        world
            .apply(&manifests().replace("{ every: 24h }", &format!("{{ every: {every} }}")))
            .await;
        world.store.identity(worker.id).await.unwrap().unwrap().due.unwrap()
    };
    world.clock.shift(jiff::SignedDuration::from_mins(20));
    let (at, reason) = due_under("48h").await;
    assert_eq!(reason, DueReason::MaxAge);
    let (sooner, reason) = due_under("12h").await;
    assert_eq!(reason, DueReason::PolicyChanged);
    assert!(sooner < at, "{sooner}");
    let now = world.env.now();
    let (at_once, reason) = due_under("10m").await;
    assert_eq!(reason, DueReason::PolicyChanged);
    assert!(at_once >= now, "not before the change: {at_once} is before {now}");
    assert_eq!(due_under("48h").await.1, DueReason::MaxAge);
}

#[tokio::test]
async fn coming_under_a_stricter_policy_is_the_reason_as_well() {
    let world = World::new().await;
    let (worker, _) = active(&world).await;
    let strict = POLICY
        .replace("daily", "strict")
        .replace("{ systems: [cache] }", "{ systems: [cache], labels: { tier: one } }")
        .replace("24h", "1h");
    world.apply(&manifests().replace("24h", "48h")).await;
    world
        .apply(&format!("{}{strict}", manifests().replace("24h", "48h")))
        .await;
    let due = async || world.store.identity(worker.id).await.unwrap().unwrap().due.unwrap();
    assert_eq!(due().await.1, DueReason::MaxAge);
    let labelled = manifests()
        .replace("24h", "48h")
        .replace("{ name: worker }", "{ name: worker, labels: { tier: one } }");
    world.apply(&format!("{labelled}{strict}")).await;
    assert_eq!(due().await.1, DueReason::PolicyChanged);
}

#[tokio::test]
async fn an_owner_who_has_retired_is_given_nothing_new() {
    let world = World::new().await;
    active(&world).await;
    let retired = manifests().replace("team@example.com }", "team@example.com, retired: true }");
    world.apply(&retired).await;
    let another = retired.replace("name: worker", "name: another");
    let Err(AppError::Invalid { problems }) = world.plan(&another).await else {
        panic!("it was planned")
    };
    assert!(problems.iter().any(|text| text.contains("has retired")), "{problems:?}");
}
