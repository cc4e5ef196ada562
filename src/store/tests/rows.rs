//! Rows, events and log entries to fill a store with. They open no store.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use keyfall_sdk::{PrincipalRef, Strategy};
use serde_json::json;
use uuid::Uuid;

use super::support::at;
use crate::domain::actor::{Actor, Approval};
use crate::domain::digest::Digest;
use crate::domain::due::DueReason;
use crate::domain::identity::{Credential, CredentialState, Identity, IdentityState};
use crate::domain::ids::{CredentialId, IdentityId, PersonId, PlanId, ResourceId, RunId, SecretId};
use crate::domain::proof::ProofTerms;
use crate::domain::workflow::{Event, EventBody, RunKind, RunPlan, Timing, Trigger};
use crate::store::{Commit, Fact, Guard, LogEntry, RunRow, SecretRow};

pub(super) fn identity(id: IdentityId, name: &str) -> Identity {
    let spec = json!({
        "kind": "database_user", "system": "orders-db", "environment": "prod", "owner": "team-orders",
        "expires": "2027-01-01T00:00:00Z", "account": name,
    });
    Identity {
        id,
        name: name.to_owned(),
        version: 1,
        labels: BTreeMap::from([("tier".to_owned(), "1".to_owned())]),
        spec: serde_json::from_value(spec).unwrap(),
        state: IdentityState::Active,
        current: None,
        due: None,
        is_control: false,
        approved: None,
        created_at: at(0),
    }
}

pub(super) fn due(identity: &Identity, seconds: i64) -> Fact {
    Fact::IdentityDue {
        id: identity.id,
        due: Some((at(seconds), DueReason::MaxAge)),
    }
}

pub(super) fn credential(id: u128, identity: IdentityId) -> Credential {
    Credential {
        id: CredentialId::from_uuid(Uuid::from_u128(id)),
        identity,
        principal: PrincipalRef {
            name: format!("account_{id}"),
            immutable_id: None,
        },
        key_id: None,
        secret: None,
        state: CredentialState::Intended,
        created_at: at(0),
        proven_at: None,
        expires_at: None,
    }
}

pub(super) fn secret(id: u128, bytes: &[u8]) -> SecretRow {
    SecretRow {
        id: SecretId::from_uuid(Uuid::from_u128(id)),
        name: None,
        kind: "password".to_owned(),
        version: 1,
        endpoint_digest: Digest::of(b"endpoint"),
        algorithm: "aes-256-gcm".to_owned(),
        kek_id: "kek-1".to_owned(),
        wrapped_key: bytes.to_vec(),
        wrap_nonce: vec![1; 12],
        nonce: vec![2; 12],
        ciphertext: bytes.repeat(3),
        created_at: at(0),
        destroy_at: None,
        destroyed_at: None,
    }
}

pub(super) fn run_row(id: RunId, identity: &Identity, wake: i64) -> RunRow {
    RunRow {
        id,
        kind: RunKind::Rotate,
        identity: identity.id,
        identity_name: identity.name.clone(),
        system_name: identity.spec.system.clone(),
        status: "open".to_owned(),
        step: Some("precheck".to_owned()),
        next_seq: 1,
        epoch: 0,
        node: None,
        lease_until: None,
        wake_at: Some(at(wake)),
        opened_at: at(wake),
        closed_at: None,
        workflow: 1,
    }
}

pub(super) fn opening(row: &RunRow) -> Event {
    Event {
        seq: 0,
        at: at(0),
        epoch: 0,
        body: EventBody::Opened {
            plan: Box::new(plan(row)),
        },
    }
}

pub(super) fn entry(row: &RunRow, event: &Event) -> LogEntry {
    LogEntry {
        run: Some((row.id, event.seq)),
        at: event.at,
        bytes: serde_json::to_vec(event).unwrap(),
    }
}

/// An entry that is no event of a run.
pub(super) fn note(text: &str) -> LogEntry {
    LogEntry {
        run: None,
        at: at(0),
        bytes: text.as_bytes().to_vec(),
    }
}

pub(super) fn cancel_requested(seq: u32) -> Event {
    Event {
        seq,
        at: at(1),
        epoch: 1,
        body: EventBody::CancelRequested {
            by: Actor::Engine,
            reason: "a test".to_owned(),
        },
    }
}

pub(super) fn progress(row: &RunRow, next_seq: u32, status: &str, release: bool) -> Fact {
    Fact::RunProgress {
        run: row.id,
        status: status.to_owned(),
        step: Some("precheck"),
        next_seq,
        wake_at: row.wake_at,
        release,
    }
}

/// What a node that holds the run writes behind its log.
pub(super) fn write_of(row: &RunRow, node: &str, epoch: u64, seq: u32) -> Commit {
    Commit {
        guards: vec![
            Guard::RunHeld {
                run: row.id,
                node: node.to_owned(),
                epoch,
            },
            Guard::RunAt {
                run: row.id,
                next_seq: seq,
            },
        ],
        facts: vec![progress(row, seq + 1, "open", false)],
        log: vec![entry(row, &cancel_requested(seq))],
    }
}

pub(super) fn approval() -> Approval {
    Approval {
        plan: PlanId::from_uuid(Uuid::from_u128(9)),
        plan_digest: Digest::of(b"plan"),
        requester: PersonId::from_uuid(Uuid::from_u128(77)),
        approvers: Vec::new(),
        standing: true,
        solo: false,
    }
}

fn plan(row: &RunRow) -> RunPlan {
    RunPlan {
        run: row.id,
        workflow_version: 1,
        kind: row.kind,
        identity: row.identity,
        identity_name: row.identity_name.clone(),
        from: None,
        owner: "team-orders".to_owned(),
        environment: "prod".to_owned(),
        system: ResourceId::from_uuid(Uuid::from_u128(1)),
        system_name: row.system_name.clone(),
        connector: "demo".to_owned(),
        endpoint_digest: Digest::of(b"endpoint"),
        trigger: Trigger::Schedule,
        reason: DueReason::MaxAge,
        due_at: None,
        initiator: Actor::Engine,
        approval: approval(),
        policy: None,
        strategy: Strategy::AlternatingAccounts,
        access: serde_json::Value::Null,
        new: None,
        old: Vec::new(),
        accounts: Vec::new(),
        deliveries: Vec::new(),
        consumers: Vec::new(),
        timing: Timing {
            overlap: SignedDuration::ZERO,
            uptake_interval: SignedDuration::ZERO,
            uptake_timeout: SignedDuration::ZERO,
            listen: SignedDuration::ZERO,
            keep_dead_secret: SignedDuration::ZERO,
            objective: SignedDuration::ZERO,
            opened_at: at(0),
        },
        proof: ProofTerms {
            vantages: Vec::new(),
            refusals: 1,
            interval: SignedDuration::ZERO,
            settling: SignedDuration::ZERO,
            settling_source: "test".to_owned(),
            give_up_after: SignedDuration::ZERO,
        },
        exception: None,
    }
}
