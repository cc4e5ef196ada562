//! What a world registers, as rows: a policy, a live credential, a sealed secret. They open no store and start no engine.

use jiff::Timestamp;
use keyfall_sdk::{KeyId, PrincipalRef};
use serde_json::json;

use super::world::Live;
use crate::domain::digest::Digest;
use crate::domain::identity::{Credential, CredentialState};
use crate::domain::ids::SecretId;
use crate::domain::resource::{PolicySpec, Spec};
use crate::store::SecretRow;

pub(super) fn policy_spec(policy: serde_json::Value) -> Spec {
    let mut spec = json!({
        "owner": "team-a", "selector": { "systems": ["sys"] }, "rotation": { "every": "24h" }, "autonomy": "automatic",
        "proof": { "refusals": 1, "interval": "1ms", "giveUpAfter": "1m", "keepDeadSecret": "1h" },
    });
    spec.as_object_mut()
        .unwrap()
        .extend(policy.as_object().unwrap().clone());
    let policy: PolicySpec = serde_json::from_value(spec).unwrap();
    Spec::Policy(policy)
}

pub(crate) fn secret_row(id: SecretId, at: Timestamp) -> SecretRow {
    SecretRow {
        id,
        name: None,
        kind: "credential".to_owned(),
        version: 1,
        endpoint_digest: Digest::of(b"endpoints"),
        algorithm: "test".to_owned(),
        kek_id: "kek".to_owned(),
        wrapped_key: vec![1; 32],
        wrap_nonce: vec![2; 12],
        nonce: vec![3; 12],
        ciphertext: vec![4; 32],
        created_at: at,
        destroy_at: None,
        destroyed_at: None,
    }
}

pub(super) fn credential(live: &Live, secret: SecretId, at: Timestamp) -> Credential {
    Credential {
        id: live.credential,
        identity: live.id,
        principal: PrincipalRef {
            name: "app".to_owned(),
            immutable_id: Some("1".to_owned()),
        },
        key_id: Some(KeyId(live.credential.to_string())),
        secret: Some(secret),
        state: CredentialState::Active,
        created_at: at,
        proven_at: Some(at),
        expires_at: None,
    }
}
