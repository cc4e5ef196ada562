//! What becomes of identities whose provisioning was taken back, and of credentials that are not ours to end.

use keyfall_sdk::{PrincipalRef, SecretValue};

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
  access: { rules: \"~* +get\" }
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
