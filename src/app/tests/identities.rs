//! What becomes of identities whose provisioning was taken back, and of credentials that are not ours to end.

use keyfall_sdk::{KeyId, PrincipalRef, SecretValue};

use super::world::World;
use crate::app::AppError;
use crate::domain::identity::{Credential, CredentialState, IdentityState};
use crate::domain::ids::{CredentialId, RunId};
use crate::store::Fact;

pub(super) const MANIFESTS: &str = "\
apiVersion: keyfall.dev/v1
kind: Owner
metadata: { name: team }
spec: { contact: team@example.com }
---
apiVersion: keyfall.dev/v1
kind: System
metadata: { name: cache }
spec:
  connector: redis
  environment: test
  owner: team
  tls: \"off\"
  vantages: [{ name: node-1, role: control, host: 127.0.0.1, port: 1 }]
  admin: { username: admin, secretRef: cache-admin }
---
apiVersion: keyfall.dev/v1
kind: Identity
metadata: { name: worker }
spec:
  kind: service_account
  system: cache
  environment: test
  owner: team
  expires: 2099-01-01T00:00:00Z
  account: worker
  strategy: dual_slot
  access: { rules: [\"~*\", \"+get\"] }
";

/// As a run leaves it that was taken back.
pub(super) async fn unwind(world: &World, run: &str) {
    let id: RunId = run.parse().unwrap();
    let stored = world.store.run(id).await.unwrap().unwrap();
    world
        .put(vec![Fact::RunProgress {
            run: id,
            status: "unwound".to_owned(),
            step: None,
            next_seq: stored.row.next_seq,
            wake_at: None,
            release: true,
        }])
        .await;
    for credential in world.store.credentials_of(stored.row.identity).await.unwrap() {
        world
            .put(vec![Fact::CredentialState {
                id: credential.id,
                to: CredentialState::NeverIssued,
            }])
            .await;
    }
}

/// As a run leaves it that went well.
pub(super) async fn provisioned(world: &World, run: &str) {
    let id: RunId = run.parse().unwrap();
    let stored = world.store.run(id).await.unwrap().unwrap();
    let identity = stored.row.identity;
    let credential = world.store.credentials_of(identity).await.unwrap().pop().unwrap();
    let principal = PrincipalRef {
        immutable_id: Some("1".to_owned()),
        ..credential.principal
    };
    let id = credential.id;
    let at = world.env.now();
    world
        .put(vec![
            Fact::CredentialIssued {
                id,
                principal,
                key_id: KeyId("key-1".to_owned()),
            },
            Fact::CredentialProven { id, at },
            Fact::CredentialState {
                id,
                to: CredentialState::Active,
            },
            Fact::IdentityState {
                id: identity,
                to: IdentityState::Active,
            },
            Fact::IdentityCurrent {
                id: identity,
                credential: Some(id),
            },
            Fact::RunProgress {
                run: stored.row.id,
                status: "completed".to_owned(),
                step: None,
                next_seq: stored.row.next_seq,
                wake_at: None,
                release: true,
            },
        ])
        .await;
}

/// The manifests and more of them, with everything that they provision active.
pub(super) async fn living(more: &str) -> World {
    let world = World::new().await;
    let ada = world.caller("ada").await;
    let secret = SecretValue::from("admin-password".to_owned());
    world.app.set_secret(&ada, "cache-admin", secret).await.unwrap();
    for run in world.apply(&format!("{MANIFESTS}{more}")).await.runs {
        provisioned(&world, &run).await;
    }
    world
}

async fn unprovisioned() -> World {
    let world = World::new().await;
    let ada = world.caller("ada").await;
    let secret = SecretValue::from("admin-password".to_owned());
    world.app.set_secret(&ada, "cache-admin", secret).await.unwrap();
    let applied = world.apply(MANIFESTS).await;
    assert_eq!(applied.runs.len(), 2, "{applied:?}");
    for run in &applied.runs {
        unwind(&world, run).await;
    }
    world
}

#[tokio::test]
async fn a_provisioning_that_was_taken_back_is_begun_again_by_the_same_manifest() {
    let world = unprovisioned().await;
    let plan = world.plan(MANIFESTS).await.unwrap();
    assert_eq!(plan.actions.len(), 2, "{plan:?}");
    assert!(plan.diff.is_empty(), "{plan:?}");
    let applied = world.approve("bo", &plan).await.unwrap();
    assert_eq!(applied.runs.len(), 2);
    let again = world.plan(MANIFESTS).await.unwrap();
    assert!(again.empty, "both are under way: {again:?}");
}

#[tokio::test]
async fn an_identity_that_was_never_provisioned_can_be_decommissioned() {
    let world = unprovisioned().await;
    let ada = world.caller("ada").await;
    let plan = world
        .app
        .decommission(&ada, "worker", "not wanted".to_owned())
        .await
        .unwrap();
    let applied = world.approve("bo", &plan).await.unwrap();
    assert!(applied.runs.is_empty());
    let worker = world.store.identity_named("worker").await.unwrap().unwrap();
    assert_eq!(worker.state, IdentityState::Decommissioned);
}

#[tokio::test]
async fn a_foreign_credential_is_not_revoked() {
    let world = unprovisioned().await;
    let worker = world.store.identity_named("worker").await.unwrap().unwrap();
    let foreign = Credential {
        id: CredentialId::from_uuid(world.env.draw_uuid()),
        identity: worker.id,
        principal: PrincipalRef {
            name: "worker".to_owned(),
            immutable_id: None,
        },
        key_id: None,
        secret: None,
        state: CredentialState::Foreign,
        created_at: world.env.now(),
        proven_at: None,
        expires_at: None,
    };
    world.put(vec![Fact::Credential(foreign.clone())]).await;
    let ada = world.caller("ada").await;
    let asked = world
        .app
        .revoke(&ada, "worker", &foreign.id.to_string(), "gone".to_owned())
        .await;
    assert!(matches!(asked, Err(AppError::Conflict { .. })), "{asked:?}");
    let ended = world.app.decommission(&ada, "worker", "not wanted".to_owned()).await;
    assert!(matches!(ended, Err(AppError::Conflict { .. })), "{ended:?}");
}

/// Without the description of anything else.
fn identity(name: &str) -> String {
    let worker = MANIFESTS.split("---\n").last().unwrap();
    worker.replacen("name: worker", &format!("name: {name}"), 1)
}

#[tokio::test]
async fn an_account_belongs_to_one_identity() {
    let world = World::new().await;
    let both = format!("{MANIFESTS}---\n{}", identity("second"));
    let words = "`worker` of `cache` belongs to identity `";
    let refused = |asked: Result<crate::app::PlanView, AppError>, words: &str| match asked {
        Err(AppError::Invalid { problems }) => {
            assert!(problems.iter().any(|one| one.contains(words)), "{problems:?}");
        }
        other => panic!("{other:?}"),
    };
    refused(world.plan(&both).await, words);
    let world = living("").await;
    refused(world.plan(&identity("second")).await, words);
    let ada = world.caller("ada").await;
    let ask = crate::app::AdoptAsk {
        name: "second".to_owned(),
        system: "cache".to_owned(),
        account: "worker".to_owned(),
        kind: crate::domain::resource::IdentityKind::ServiceAccount,
        environment: "test".to_owned(),
        owner: "team".to_owned(),
        expires: "2099-01-01T00:00:00Z".parse().unwrap(),
        take_over: true,
        secret: None,
        reason: String::new(),
    };
    refused(world.app.adopt(&ada, ask).await, "belongs to `worker`");
}

#[tokio::test]
async fn who_comes_under_a_policy_by_a_label_is_due_by_it() {
    const POLICY: &str = "\
---
apiVersion: keyfall.dev/v1
kind: Policy
metadata: { name: tier-one }
spec:
  owner: team
  selector: { labels: { tier: one } }
  rotation: { every: 30d }
";
    let world = living(POLICY).await;
    let due = |world: &World| {
        let store = std::sync::Arc::clone(&world.store);
        async move { store.identity_named("worker").await.unwrap().unwrap().due }
    };
    assert_eq!(due(&world).await, None);
    let labelled = identity("worker").replacen("name: worker", "name: worker, labels: { tier: one }", 1);
    world.apply(&labelled).await;
    assert!(due(&world).await.is_some());
    world.apply(&identity("worker")).await;
    assert_eq!(due(&world).await, None);
}

#[tokio::test]
async fn sessions_show_an_uptake_only_where_they_tell_whose_they_are() {
    let world = World::new().await;
    let refused = |asked: Result<crate::app::PlanView, AppError>, words: &str| match asked {
        Err(AppError::Invalid { problems }) => {
            assert!(problems.iter().any(|one| one.contains(words)), "{problems:?}");
        }
        other => panic!("{other:?}"),
    };
    let consumers = |names: &[&str]| {
        let one = |name: &&str| format!("{{ name: {name}, seenBy: sessions }}");
        format!(
            "  consumers: [{}]\n",
            names.iter().map(one).collect::<Vec<_>>().join(", ")
        )
    };
    let dual = format!("{MANIFESTS}{}", consumers(&["api"]));
    refused(world.plan(&dual).await, "needs alternating accounts");
    let alternating = MANIFESTS
        .replace("strategy: dual_slot", "strategy: alternating_accounts")
        .replace("connector: redis", "connector: postgres")
        .replace("tls: \"off\"", "tls: verify")
        .replace("access: { rules: [\"~*\", \"+get\"] }", "access: { owner: team_role }");
    refused(
        world
            .plan(&format!("{alternating}{}", consumers(&["api", "job"])))
            .await,
        "only one consumer can be seen by sessions",
    );
}

/// The history is shown to its last hundred, and of what came before whatever may still be accepted.
#[tokio::test]
async fn a_long_history_is_shown_to_its_last_hundred_and_what_may_be_alive() {
    let world = living("").await;
    let worker = world.store.identity_named("worker").await.unwrap().unwrap();
    let mut current = world.store.credentials_of(worker.id).await.unwrap().remove(0);
    let now = world.env.now();
    let ours = current.id;
    let mut left = None;
    for hour in 1..=150 {
        current.id = CredentialId::from_uuid(world.env.draw_uuid());
        current.created_at = now - jiff::SignedDuration::from_hours(hour);
        current.state = CredentialState::NeverIssued;
        if hour == 140 {
            current.state = CredentialState::AliveAfterRevoke { since: now };
            left = Some(current.id);
        }
        world.put(vec![Fact::Credential(current.clone())]).await;
    }
    let shown = world.app.identity(&world.caller("ada").await, "worker").await.unwrap();
    let ids: Vec<&str> = shown.credentials.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(ids.len(), 101);
    assert_eq!(
        (ids[0], ids[100]),
        (ours.to_string().as_str(), left.unwrap().to_string().as_str())
    );
    assert_eq!(shown.current.map(|one| one.id), Some(ours.to_string()));
}
