//! From what an event changes in the register to the facts that are stored with it. Pure.

use jiff::Timestamp;
use keyfall_sdk::{KeyId, PrincipalReading, PrincipalRef};

use crate::domain::due::{DueFacts, DueReason, DueTerms, due_of};
use crate::domain::identity::{Credential, CredentialState, IdentityState};
use crate::domain::ids::{CredentialId, IdentityId};
use crate::domain::resource::RotationRule;
use crate::domain::workflow::{
    Event, RegisterChange, Run, RunKind, RunPlan, account_ends, current_ends, register_changes,
};
use crate::store::{Fact, SettlingSample};

/// What the register needs to know to give an identity its next due time.
#[derive(Debug, Clone, Default)]
pub(super) struct Schedule {
    /// `None`: no policy selects the identity, so nothing is ever due.
    pub(super) rule: Option<RotationRule>,
    /// The end of the identity's registration.
    pub(super) ends: Option<Timestamp>,
}

/// One event, as far as every change that it makes may ask.
#[derive(Clone, Copy)]
struct Told<'a> {
    plan: &'a RunPlan,
    at: Timestamp,
    schedule: &'a Schedule,
    /// The end of the current credential's own validity downstream, where the event shows it.
    credential_ends: Option<Timestamp>,
}

/// What follows from a person having declared a step done. `run` is the run after the event was applied to it.
#[must_use]
pub fn facts_by_hand(run: &Run, event: &Event) -> Vec<Fact> {
    facts_of(run, event, &Schedule::default())
}

/// The facts of an event. `run` is the run after the event was applied to it.
pub(super) fn facts_of(run: &Run, event: &Event, schedule: &Schedule) -> Vec<Fact> {
    let told = Told {
        plan: run.plan(),
        at: event.at,
        schedule,
        credential_ends: current_ends(run, event),
    };
    register_changes(run, event)
        .into_iter()
        .flat_map(|change| facts_of_change(told, change))
        .collect()
}

fn facts_of_change(told: Told<'_>, change: RegisterChange) -> Vec<Fact> {
    let Told { plan, at, .. } = told;
    match change {
        RegisterChange::CredentialIntended { id } => intended(plan, id, at).into_iter().collect(),
        RegisterChange::CredentialIssued { id, issued } => vec![Fact::CredentialIssued {
            id,
            principal: issued.principal,
            key_id: issued.key_id,
        }],
        RegisterChange::CredentialProven { id, at } => vec![Fact::CredentialProven { id, at }],
        RegisterChange::CredentialExpires { id, at } => vec![Fact::CredentialExpires { id, at }],
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
            // What is not there is not due.
            if matches!(to, IdentityState::Requested | IdentityState::Decommissioned) {
                facts.push(Fact::IdentityDue { id, due: None });
            }
            facts
        }
        RegisterChange::IdentityCurrent { id, credential } => {
            let mut facts = vec![Fact::IdentityCurrent { id, credential }];
            // A takeover is the first moment from which the age of the credential can be counted.
            if plan.kind == RunKind::TakeOver && credential.is_some() {
                facts.push(due_fact(told, id, at));
            }
            facts
        }
        RegisterChange::IdentityRotated { id, at } => vec![due_fact(told, id, at)],
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
        expires_at: None,
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
    let expires_at = account_ends(reading, &principal.name);
    Some(Fact::Credential(Credential {
        id,
        identity: plan.identity,
        principal,
        key_id: key_id.or_else(|| old.key_id.clone()),
        secret: old.secret,
        state: CredentialState::Foreign,
        created_at: at,
        proven_at: None,
        expires_at,
    }))
}

/// A credential that became current at `since` is due by the policy that holds now, with what its run pinned.
fn due_fact(told: Told<'_>, id: IdentityId, since: Timestamp) -> Fact {
    let Told { plan, schedule, .. } = told;
    let rule = schedule.rule.as_ref();
    let terms = rule.map(|rule| DueTerms::new(rule, plan.timing.overlap, &plan.proof));
    let facts = DueFacts {
        credential_expires: told.credential_ends,
        identity_expires: schedule.ends,
        ..DueFacts::fresh(id, since)
    };
    // A rule that cannot be followed was refused when it was planned; were one here, a rotation too early shows it to somebody.
    let due = due_of(terms, &facts).unwrap_or(Some((since, DueReason::PolicyChanged)));
    Fact::IdentityDue { id, due }
}
