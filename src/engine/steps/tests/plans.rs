//! The plans that the tests run: what an application would have planned and people approved.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use keyfall_sdk::{Placement, PrincipalRef, Strategy};
use serde_json::json;
use uuid::Uuid;

use super::{Bench, Live, VANTAGES, uuid};
use crate::domain::actor::{Actor, Approval};
use crate::domain::digest::Digest;
use crate::domain::due::DueReason;
use crate::domain::ids::{CredentialId, PersonId, PlanId, ResourceId, RunId};
use crate::domain::proof::ProofTerms;
use crate::domain::resource::SeenBy;
use crate::domain::workflow::{
    ConsumerPlan, DeliveryPlan, NewCredential, OldCredential, RunKind, RunPlan, Timing, Trigger,
};

impl Bench {
    pub(super) fn plan(&self, kind: RunKind, old: &[Live], account: Option<PrincipalRef>) -> RunPlan {
        let slot = json!({ "slot": self.slot });
        let placement = match self.strategy {
            Strategy::InPlace => Placement::Replace,
            _ => Placement::Alongside,
        };
        let delivers = !matches!(kind, RunKind::Revoke | RunKind::Adopt | RunKind::TakeOver);
        RunPlan {
            run: RunId::from_uuid(uuid()),
            workflow_version: 1,
            kind,
            identity: self.identity,
            identity_name: "app".to_owned(),
            from: None,
            owner: "team".to_owned(),
            environment: "test".to_owned(),
            system: ResourceId::from_uuid(Uuid::from_u128(1)),
            system_name: "demo".to_owned(),
            connector: "demo".to_owned(),
            endpoint_digest: self.endpoints,
            trigger: Trigger::Request,
            reason: DueReason::Requested,
            due_at: None,
            initiator: Actor::Engine,
            approval: standing(),
            policy: None,
            strategy: self.strategy,
            access: json!({ "grants": ["read"] }),
            new: account.map(|principal| NewCredential {
                id: CredentialId::from_uuid(uuid()),
                secret: self.draw(),
                principal,
                placement,
            }),
            old: old.iter().map(old_credential).collect(),
            accounts: old.iter().map(|live| live.principal.clone()).collect(),
            deliveries: Vec::from_iter(delivers.then(|| DeliveryPlan {
                destination: ResourceId::from_uuid(Uuid::from_u128(2)),
                destination_name: "place".to_owned(),
                connector: "demo-destination".to_owned(),
                target: slot,
                fields: BTreeMap::new(),
            })),
            consumers: Vec::from_iter(
                matches!(kind, RunKind::Provision | RunKind::Rotate).then(|| ConsumerPlan {
                    name: format!("consumer-of-{}", self.slot),
                    seen_by: SeenBy::Acknowledgement,
                }),
            ),
            timing: timing(self.now()),
            proof: terms(),
            exception: None,
        }
    }
}

fn old_credential(live: &Live) -> OldCredential {
    OldCredential {
        id: live.id,
        secret: Some(live.secret),
        principal: live.principal.clone(),
        key_id: Some(live.key_id.clone()),
        issued: true,
        ended_before: false,
        accepted: BTreeMap::new(),
    }
}

fn standing() -> Approval {
    Approval {
        plan: PlanId::from_uuid(Uuid::from_u128(1)),
        plan_digest: Digest::of(b"plan"),
        requester: PersonId::from_uuid(Uuid::from_u128(77)),
        approvers: Vec::new(),
        standing: true,
        solo: false,
    }
}

fn timing(opened_at: jiff::Timestamp) -> Timing {
    Timing {
        overlap: SignedDuration::from_secs(30),
        uptake_interval: SignedDuration::from_secs(1),
        uptake_timeout: SignedDuration::from_secs(10),
        listen: SignedDuration::from_secs(8),
        keep_dead_secret: SignedDuration::from_hours(1),
        objective: SignedDuration::from_mins(15),
        opened_at,
    }
}

fn terms() -> ProofTerms {
    ProofTerms {
        vantages: VANTAGES.map(str::to_owned).to_vec(),
        refusals: 3,
        interval: SignedDuration::from_secs(5),
        settling: SignedDuration::from_secs(20),
        settling_source: "test".to_owned(),
        give_up_after: SignedDuration::from_mins(5),
    }
}

pub(in crate::engine::steps) fn fresh(account: &str) -> PrincipalRef {
    PrincipalRef {
        name: account.to_owned(),
        immutable_id: None,
    }
}
