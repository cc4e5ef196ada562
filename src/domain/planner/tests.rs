//! What a plan takes from the register.

use std::collections::BTreeMap;

use keyfall_sdk::PrincipalRef;
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::domain::ids::{IdentityId, PersonId, PlanId};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn identity(current: CredentialId) -> Identity {
    let spec = json!({
        "kind": "database_user", "system": "db", "environment": "test", "owner": "team", "expires": "2099-01-01T00:00:00Z",
        "account": "app", "consumers": [{ "name": "web", "seenBy": "acknowledgement" }],
    });
    Identity {
        id: IdentityId::from_uuid(Uuid::from_u128(1)),
        name: "app".to_owned(),
        version: 1,
        labels: BTreeMap::new(),
        spec: serde_json::from_value(spec).unwrap(),
        state: IdentityState::Active,
        current: Some(current),
        due: None,
        is_control: false,
        approved: None,
        created_at: at(0),
    }
}

fn credential(number: u128, account: &str, immutable_id: Option<&str>) -> Credential {
    Credential {
        id: CredentialId::from_uuid(Uuid::from_u128(number)),
        identity: IdentityId::from_uuid(Uuid::from_u128(1)),
        principal: PrincipalRef {
            name: account.to_owned(),
            immutable_id: immutable_id.map(str::to_owned),
        },
        key_id: None,
        secret: None,
        state: CredentialState::Active,
        created_at: at(0),
        proven_at: None,
        expires_at: None,
    }
}

/// Row 16.
#[test]
fn the_overlap_is_as_long_as_the_slowest_cache_and_the_policy() {
    let mut identity = identity(CredentialId::from_uuid(Uuid::from_u128(1)));
    let policy = json!({ "owner": "team", "rotation": {}, "overlap": "10m" });
    let policy: PolicySpec = serde_json::from_value(policy).unwrap();
    let minutes = SignedDuration::from_mins;
    assert_eq!(overlap(&identity.spec, None), minutes(0));
    assert_eq!(overlap(&identity.spec, Some(&policy)), minutes(10));
    for (caches_for, length) in [("5m", 10), ("1h", 60)] {
        let worker = json!({ "name": "worker", "seenBy": "acknowledgement", "cachesFor": caches_for });
        identity.spec.consumers.push(serde_json::from_value(worker).unwrap());
        assert_eq!(overlap(&identity.spec, Some(&policy)), minutes(length));
        let credentials = [credential(1, "app", None)];
        let lives = Lives::new();
        let plan = planned(&identity, &credentials, &lives, RunKind::Rotate, None).unwrap();
        let without = overlap(&identity.spec, None);
        assert_eq!(plan.timing.overlap, without, "a plan goes by it");
    }
}

fn rotation(credentials: &[Credential], exception: Option<&str>) -> RunPlan {
    let identity = identity(credentials[0].id);
    planned(&identity, credentials, &Lives::new(), RunKind::Rotate, exception).unwrap()
}

fn planned(
    identity: &Identity,
    credentials: &[Credential],
    lives: &Lives,
    kind: RunKind,
    exception: Option<&str>,
) -> Result<RunPlan, CannotPlan> {
    let system = json!({
        "environment": "test", "owner": "team", "connector": "demo",
        "vantages": [{ "name": "primary", "role": "control", "host": "localhost", "port": 1 }],
    });
    let registered = Registered {
        identity,
        system_id: ResourceId::from_uuid(Uuid::from_u128(3)),
        system: &serde_json::from_value(system).unwrap(),
        policy: None,
        destinations: &BTreeMap::new(),
        credentials,
        connector: &ConnectorFacts {
            strategies: vec![Strategy::AlternatingAccounts],
            settling: SignedDuration::ZERO,
            settling_source: "test".to_owned(),
            measured: None,
        },
        lives,
    };
    let request = RunRequest {
        kind,
        trigger: Trigger::Request,
        reason: DueReason::Requested,
        initiator: Actor::Engine,
        approval: Approval {
            plan: PlanId::from_uuid(Uuid::from_u128(4)),
            plan_digest: Digest([0; 32]),
            requester: PersonId::from_uuid(Uuid::from_u128(5)),
            approvers: Vec::new(),
            standing: false,
            solo: false,
        },
        credential: credentials.last().map(|one| one.id),
        exception: exception.map(str::to_owned),
    };
    let drawn = Drawn {
        run: RunId::from_uuid(Uuid::from_u128(6)),
        credential: CredentialId::from_uuid(Uuid::from_u128(7)),
        secret: SecretId::from_uuid(Uuid::from_u128(8)),
        now: at(9),
    };
    plan_run(&registered, request, drawn)
}

#[test]
fn an_exception_leaves_the_consumers_in_the_plan() {
    let current = credential(10, "app_a", Some("a1"));
    for exception in [None, Some("known to strangers")] {
        let plan = rotation(std::slice::from_ref(&current), exception);
        assert_eq!(plan.consumers.len(), 1, "{exception:?}");
    }
}

#[test]
fn an_account_that_was_deleted_is_made_anew_by_the_next_rotation() {
    let current = credential(10, "app_a", Some("a1"));
    let deleted = credential(11, "app_b", None);
    let plan = rotation(&[current.clone(), deleted], None);
    let wanted = plan.new.unwrap().principal;
    assert_eq!((wanted.name.as_str(), wanted.immutable_id), ("app_b", None));
    assert_eq!(plan.accounts, std::slice::from_ref(&current.principal));
    let kept = credential(11, "app_b", Some("b1"));
    let plan = rotation(&[current, kept], None);
    assert_eq!(plan.new.unwrap().principal.immutable_id.as_deref(), Some("b1"));
}

#[test]
fn taking_over_never_leaves_a_current_credential_behind() {
    let current = credential(10, "app", Some("a1"));
    let foreign = Credential {
        state: CredentialState::Foreign,
        ..credential(11, "app", None)
    };
    let over = |credentials: &[Credential]| {
        let identity = identity(credentials[0].id);
        planned(&identity, credentials, &Lives::new(), RunKind::TakeOver, None)
    };
    let refused = over(&[current.clone(), foreign.clone()]);
    assert!(matches!(refused, Err(CannotPlan::InUse { .. })), "{refused:?}");
    assert!(over(std::slice::from_ref(&foreign)).is_ok());
    let over_by_now = Credential {
        state: CredentialState::NeverIssued,
        ..current
    };
    assert!(over(&[over_by_now, foreign]).is_ok());
}

#[test]
fn what_may_be_alive_is_revoked_also_behind_a_tombstone_and_with_the_life_that_was_seen() {
    let left = Credential {
        state: CredentialState::Unprovable {
            best: None,
            why: String::new(),
        },
        ..credential(10, "app_a", Some("a1"))
    };
    let mut gone = identity(left.id);
    gone.current = None;
    let life = BTreeMap::from([("primary".to_owned(), at(1))]);
    let lives = Lives::from([(left.id, life.clone())]);
    for state in [IdentityState::Decommissioned, IdentityState::Decommissioning] {
        gone.state = state;
        let plan = planned(&gone, std::slice::from_ref(&left), &lives, RunKind::Revoke, None).unwrap();
        assert!(plan.old[0].ended_before);
        assert_eq!((&plan.old[0].accepted, plan.from), (&life, Some(state)));
    }
    let again = planned(&gone, &[left], &lives, RunKind::Decommission, None).unwrap();
    assert_eq!(again.old.len(), 1);
}

#[test]
fn what_has_no_credential_to_replace_is_told_the_command_that_leads_on() {
    let told = |state, kind| {
        let identity = Identity {
            state,
            current: None,
            ..identity(CredentialId::from_uuid(Uuid::from_u128(10)))
        };
        planned(&identity, &[], &Lives::new(), kind, None)
            .unwrap_err()
            .to_string()
    };
    for kind in [RunKind::Rotate, RunKind::EmergencyRotate] {
        assert!(
            told(IdentityState::Requested, kind).contains("keyfall apply -f"),
            "{kind:?}"
        );
        let active = told(IdentityState::Active, kind);
        assert!(
            active.contains("keyfall adopt") && active.contains("keyfall decommission"),
            "{active}"
        );
        assert!(!active.contains("provision"), "{active}");
    }
}
