//! What somebody does to the systems behind Keyfall's back.

use std::time::Duration;

use keyfall_sdk::{CallContext, DeliverCall, KeyId, PrincipalRef, RevokeCall};
use serde_json::json;

use super::Bench;
use crate::domain::ids::SecretId;
use crate::engine::guard::GuardedConnector;

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
