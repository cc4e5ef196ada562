//! From what an event changes in the register to the facts that are stored with it. Pure.

use jiff::Timestamp;
use keyfall_sdk::{KeyId, PrincipalReading, PrincipalRef};

use crate::domain::due::{BadRule, DueFacts, DueReason, next_due};
use crate::domain::identity::{Credential, CredentialState, IdentityState};
use crate::domain::ids::{CredentialId, IdentityId};
use crate::domain::resource::RotationRule;
use crate::domain::workflow::{Event, RegisterChange, Run, RunKind, RunPlan, register_changes};
use crate::store::{Fact, SettlingSample};

/// What the register needs to know to give an identity its next due time.
#[derive(Debug, Clone, Default)]
pub(super) struct Schedule {
    /// `None`: no policy selects the identity, so nothing is ever due.
    pub(super) rule: Option<RotationRule>,
}

/// What follows from a person having declared a step done. `run` is the run after the event was applied to it.
#[must_use]
pub fn facts_by_hand(run: &Run, event: &Event) -> Vec<Fact> {
    facts_of(run, event, &Schedule::default())
}

/// The facts of an event. `run` is the run after the event was applied to it.
pub(super) fn facts_of(run: &Run, event: &Event, schedule: &Schedule) -> Vec<Fact> {
    register_changes(run, event)
        .into_iter()
        .flat_map(|change| facts_of_change(run.plan(), change, event.at, schedule))
        .collect()
}

fn facts_of_change(plan: &RunPlan, change: RegisterChange, at: Timestamp, schedule: &Schedule) -> Vec<Fact> {
    match change {
        RegisterChange::CredentialIntended { id } => intended(plan, id, at).into_iter().collect(),
        RegisterChange::CredentialIssued { id, issued } => vec![Fact::CredentialIssued {
            id,
            principal: issued.principal,
            key_id: issued.key_id,
        }],
        RegisterChange::CredentialProven { id, at } => vec![Fact::CredentialProven { id, at }],
        RegisterChange::CredentialState { id, to } => vec![Fact::CredentialState { id, to }],
        RegisterChange::CredentialAdopted { id, reading, key_id } => {
            adopted(plan, id, &reading, key_id, at).into_iter().collect()
        }
        RegisterChange::PrincipalDeleted { id, was } => vec![Fact::CredentialIssued {
            id,
            principal: PrincipalRef {
                immutable_id: None,
                ..was.principal
            },
            key_id: was.key_id,
        }],
        RegisterChange::IdentityState { id, to } => {
            let mut facts = vec![Fact::IdentityState { id, to }];
            if to == IdentityState::Decommissioned {
                facts.push(Fact::IdentityDue { id, due: None });
            }
            facts
        }
        RegisterChange::IdentityCurrent { id, credential } => {
            let mut facts = vec![Fact::IdentityCurrent { id, credential }];
            // A takeover is the first moment from which the age of the credential can be counted.
            if plan.kind == RunKind::TakeOver && credential.is_some() {
                facts.push(due_fact(plan, id, at, schedule));
            }
            facts
        }
        RegisterChange::IdentityRotated { id, at } => vec![due_fact(plan, id, at, schedule)],
        RegisterChange::SecretDestroyAt { id, at } => vec![Fact::SecretDestroyAt { id, at }],
        RegisterChange::SecretKept { id } => vec![Fact::SecretKept { id }],
        RegisterChange::SettlingMeasured { vantage, micros } => vec![Fact::Settling(SettlingSample {
            system: plan.system_name.clone(),
            vantage,
            micros,
            at,
        })],
    }
}

fn intended(plan: &RunPlan, id: CredentialId, at: Timestamp) -> Option<Fact> {
    let new = plan.new.as_ref()?;
    Some(Fact::Credential(Credential {
        id,
        identity: plan.identity,
        principal: new.principal.clone(),
        key_id: None,
        secret: Some(new.secret),
        state: CredentialState::Intended,
        created_at: at,
        proven_at: None,
    }))
}

fn adopted(
    plan: &RunPlan,
    id: CredentialId,
    reading: &PrincipalReading,
    key_id: Option<KeyId>,
    at: Timestamp,
) -> Option<Fact> {
    let old = plan.old.iter().find(|old| old.id == id)?;
    let state = reading
        .states()
        .find(|state| state.name == old.principal.name)
        .or_else(|| reading.states().next());
    let principal = state.map_or_else(
        || old.principal.clone(),
        |state| PrincipalRef {
            name: state.name.clone(),
            immutable_id: Some(state.immutable_id.clone()),
        },
    );
    Some(Fact::Credential(Credential {
        id,
        identity: plan.identity,
        principal,
        key_id: key_id.or_else(|| old.key_id.clone()),
        secret: old.secret,
        state: CredentialState::Foreign,
        created_at: at,
        proven_at: None,
    }))
}

fn due_fact(plan: &RunPlan, id: IdentityId, at: Timestamp, schedule: &Schedule) -> Fact {
    let due = schedule.rule.as_ref().map(|rule| {
        // A rule that cannot be followed was refused when it was planned; were one here, a rotation too early shows it to somebody.
        due_after(rule, plan, at).unwrap_or((at, DueReason::PolicyChanged))
    });
    Fact::IdentityDue { id, due }
}

fn due_after(rule: &RotationRule, plan: &RunPlan, at: Timestamp) -> Result<(Timestamp, DueReason), BadRule> {
    next_due(
        rule,
        &DueFacts {
            identity: plan.identity,
            current_since: at,
            compromised_at: None,
            owner_left_at: None,
            policy_changed_at: None,
            requested_at: None,
            credential_expires: None,
            takes: plan.proof.takes(plan.timing.overlap),
        },
    )
}
