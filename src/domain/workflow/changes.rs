//! What an event changes in the register. The changes are stored in the transaction that appends the event, and nowhere else does a run
//! change a credential or an identity.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::{Issued, KeyId, PrincipalReading, Strategy};

use super::super::identity::{CredentialState, IdentityState};
use super::super::ids::{CredentialId, IdentityId, SecretId};
use super::super::proof::{Proof, measured_settling};
use super::event::{Death, Event, EventBody, Observation, StepOutput};
use super::expiry;
use super::keeping;
use super::plan::{RunKind, RunPlan};
use super::run::Run;
use super::state::Path;
use super::steps::Step;

#[derive(Debug, Clone, PartialEq)]
pub enum RegisterChange {
    CredentialIntended {
        id: CredentialId,
    },
    CredentialIssued {
        id: CredentialId,
        issued: Issued,
    },
    CredentialProven {
        id: CredentialId,
        at: Timestamp,
    },
    /// The end of its own validity downstream, as it was read.
    CredentialExpires {
        id: CredentialId,
        at: Timestamp,
    },
    CredentialState {
        id: CredentialId,
        to: CredentialState,
    },
    /// The account as it is; `id` becomes its first credential.
    CredentialAdopted {
        id: CredentialId,
        reading: PrincipalReading,
        /// `None`: which of the account's credentials it is could not be told.
        key_id: Option<KeyId>,
    },
    /// The account that a credential was on does not exist any more: its immutable id names nothing.
    PrincipalDeleted {
        id: CredentialId,
        was: Issued,
    },
    IdentityState {
        id: IdentityId,
        to: IdentityState,
    },
    IdentityCurrent {
        id: IdentityId,
        credential: Option<CredentialId>,
    },
    /// The due time is to be computed anew from the policy.
    IdentityRotated {
        id: IdentityId,
        at: Timestamp,
    },
    SecretDestroyAt {
        id: SecretId,
        at: Timestamp,
    },
    /// Its deadline waits: a run needs it for a proof.
    SecretKept {
        id: SecretId,
    },
    /// How long one vantage was seen to go on honouring a revoked credential: a sample of the measured settling distribution.
    SettlingMeasured {
        vantage: String,
        micros: i64,
    },
}

/// `run` is the run after `event` was applied to it.
#[must_use]
pub fn register_changes(run: &Run, event: &Event) -> Vec<RegisterChange> {
    let mut changes = seen(run, event.body.seen());
    changes.extend(told(run, event));
    changes
}

/// What was read and lost on the way, however the attempt ended.
fn seen(run: &Run, seen: &[Observation]) -> Vec<RegisterChange> {
    let of_one = |observation: &Observation| match observation {
        Observation::SecretLost { credential } => vec![credential_to(*credential, CredentialState::Lost)],
        Observation::Before { reading } => expiry::read_before(run, reading),
        _ => Vec::new(),
    };
    seen.iter().flat_map(of_one).collect()
}

fn told(run: &Run, event: &Event) -> Vec<RegisterChange> {
    let plan = run.plan();
    match &event.body {
        EventBody::Opened { .. } => opened(plan),
        EventBody::Started { step, .. } => started(plan, *step),
        EventBody::Succeeded {
            step: Step::ReadBack, ..
        } => expiry::read_after(run, event),
        EventBody::Succeeded { step, output, .. } => succeeded(run, *step, output, event.at),
        EventBody::Resumed { .. } => resumed(run, event.at),
        EventBody::Unwinding { .. } => unwinding(run),
        EventBody::Closed { .. } => closed(run, event.at),
        _ => Vec::new(),
    }
}

fn opened(plan: &RunPlan) -> Vec<RegisterChange> {
    let mut changes = Vec::new();
    if let Some(new) = &plan.new {
        changes.push(RegisterChange::CredentialIntended { id: new.id });
    }
    if plan.kind == RunKind::Decommission {
        changes.push(RegisterChange::IdentityState {
            id: plan.identity,
            to: IdentityState::Decommissioning,
        });
    }
    changes.extend(keeping::needed(plan));
    changes
}

fn started(plan: &RunPlan, step: Step) -> Vec<RegisterChange> {
    let revoking = |id| RegisterChange::CredentialState {
        id,
        to: CredentialState::Revoking,
    };
    match step {
        Step::RevokeOld => plan.old.iter().map(|old| revoking(old.id)).collect(),
        Step::RevokeNew => plan.new.iter().map(|new| revoking(new.id)).collect(),
        _ => Vec::new(),
    }
}

fn succeeded(run: &Run, step: Step, output: &StepOutput, at: Timestamp) -> Vec<RegisterChange> {
    let plan = run.plan();
    let settling_until = at.saturating_add(plan.proof.settling).unwrap_or(Timestamp::MAX);
    let revoked = |id| credential_to(id, CredentialState::Revoked { settling_until });
    let new = || plan.new.iter();
    match (step, output) {
        (Step::IssueNew, StepOutput::Issued { issued }) => issued_new(plan, issued, settling_until),
        (Step::ProveNew, _) => new()
            .map(|new| RegisterChange::CredentialProven { id: new.id, at })
            .collect(),
        (Step::Promote, _) => promoted(plan, at),
        (Step::Quarantine, _) => vec![identity_to(plan, IdentityState::Quarantined)],
        (Step::LiftQuarantine, _) => vec![identity_to(plan, came_from(plan))],
        (Step::StripGrants, _) if plan.kind == RunKind::Decommission => {
            vec![identity_to(plan, IdentityState::Decommissioning)]
        }
        (Step::RevokeOld, _) => plan.old.iter().map(|old| revoked(old.id)).collect(),
        (Step::RevokeNew, StepOutput::NeverIssued) => new()
            .map(|new| credential_to(new.id, CredentialState::NeverIssued))
            .collect(),
        (Step::RevokeNew, _) => new().map(|new| revoked(new.id)).collect(),
        (Step::ProveDead | Step::ProveNewDead, StepOutput::Proofs { deaths }) => {
            let mut changes: Vec<_> = deaths
                .iter()
                .flat_map(|(id, death)| died(run, *id, death, at))
                .collect();
            // Whatever the proof came to, nobody is to use any of them any more.
            if plan.kind == RunKind::Decommission {
                changes.push(no_current(plan));
            }
            changes
        }
        (Step::Tombstone, _) => {
            let mut changes = vec![no_current(plan), identity_to(plan, IdentityState::Decommissioned)];
            changes.extend(keeping::buried(run, at));
            changes
        }
        (Step::DeleteNewAccount, _) => new_deleted(run),
        (Step::Record, StepOutput::Adopted { reading, keys }) => adopted(plan, reading, keys),
        _ => Vec::new(),
    }
}

/// A person did by hand what the step was to do, so what follows from it is the same; whether it is true is for the proof to find out.
fn resumed(run: &Run, at: Timestamp) -> Vec<RegisterChange> {
    let Some(step) = run.skipped().last().map(|skipped| skipped.step) else {
        return Vec::new();
    };
    match step {
        Step::RevokeOld
        | Step::RevokeNew
        | Step::Quarantine
        | Step::StripGrants
        | Step::LiftQuarantine
        | Step::DeleteNewAccount => {
            let mut changes = started(run.plan(), step);
            changes.extend(succeeded(run, step, &StepOutput::Nothing, at));
            changes
        }
        _ => Vec::new(),
    }
}

/// An account that this run had made. The next one of its name is another one.
fn new_deleted(run: &Run) -> Vec<RegisterChange> {
    let issued = run.issued().filter(|issued| issued.created_principal);
    let deleted = run.plan().new.iter().zip(issued);
    deleted
        .map(|(new, issued)| RegisterChange::PrincipalDeleted {
            id: new.id,
            was: issued.clone(),
        })
        .collect()
}

fn no_current(plan: &RunPlan) -> RegisterChange {
    RegisterChange::IdentityCurrent {
        id: plan.identity,
        credential: None,
    }
}

fn came_from(plan: &RunPlan) -> IdentityState {
    plan.from.unwrap_or(IdentityState::Active)
}

fn credential_to(id: CredentialId, to: CredentialState) -> RegisterChange {
    RegisterChange::CredentialState { id, to }
}

fn identity_to(plan: &RunPlan, to: IdentityState) -> RegisterChange {
    RegisterChange::IdentityState { id: plan.identity, to }
}

/// Where an account holds one value, issuing the new one is what revoked the old one.
fn issued_new(plan: &RunPlan, issued: &Issued, settling_until: Timestamp) -> Vec<RegisterChange> {
    let mut changes: Vec<_> = plan
        .new
        .iter()
        .map(|new| RegisterChange::CredentialIssued {
            id: new.id,
            issued: issued.clone(),
        })
        .collect();
    if plan.strategy == Strategy::InPlace {
        for old in &plan.old {
            changes.push(credential_to(old.id, CredentialState::Revoking));
            changes.push(credential_to(old.id, CredentialState::Revoked { settling_until }));
        }
    }
    changes
}

fn promoted(plan: &RunPlan, at: Timestamp) -> Vec<RegisterChange> {
    let Some(new) = &plan.new else { return Vec::new() };
    let mut changes = vec![
        credential_to(new.id, CredentialState::Active),
        RegisterChange::IdentityCurrent {
            id: plan.identity,
            credential: Some(new.id),
        },
        RegisterChange::IdentityRotated { id: plan.identity, at },
    ];
    if plan.kind == RunKind::Provision {
        changes.push(identity_to(plan, IdentityState::Active));
    }
    if plan.strategy != Strategy::InPlace {
        let overlap_ends = at.saturating_add(plan.timing.overlap).unwrap_or(Timestamp::MAX);
        changes.extend(plan.old.iter().map(|old| RegisterChange::CredentialState {
            id: old.id,
            to: CredentialState::Superseded {
                successor: new.id,
                overlap_ends,
            },
        }));
    }
    changes
}

fn died(run: &Run, id: CredentialId, death: &Death, at: Timestamp) -> Vec<RegisterChange> {
    let plan = run.plan();
    let secret = plan
        .old
        .iter()
        .find(|old| old.id == id)
        .and_then(|old| old.secret)
        .or_else(|| plan.new.as_ref().filter(|new| new.id == id).map(|new| new.secret));
    let to = match death {
        // What the log does not prove changes nothing; such an event does not follow in the first place.
        Death::Proven { .. } => {
            return run
                .proof_of(id)
                .map_or_else(Vec::new, |proof| dead(plan, id, secret, proof));
        }
        Death::Alive { since } => CredentialState::AliveAfterRevoke { since: *since },
        Death::Unprovable { best, why } => CredentialState::Unprovable {
            best: *best,
            why: why.clone(),
        },
    };
    let mut changes = vec![credential_to(id, to)];
    changes.extend(secret.map(|id| keeping::destroy_at(id, at, keeping::unproven(plan))));
    changes
}

fn dead(plan: &RunPlan, id: CredentialId, secret: Option<SecretId>, proof: Box<Proof>) -> Vec<RegisterChange> {
    let mut changes: Vec<_> = secret
        .map(|id| keeping::destroy_at(id, proof.proven_at(), plan.timing.keep_dead_secret))
        .into_iter()
        .collect();
    for vantage in &proof.terms().vantages {
        if let Some(settled) = measured_settling(proof.terms(), proof.progress(), vantage) {
            changes.push(RegisterChange::SettlingMeasured {
                vantage: vantage.clone(),
                micros: i64::try_from(settled.as_micros()).unwrap_or(i64::MAX),
            });
        }
    }
    changes.push(credential_to(id, CredentialState::Dead { proof }));
    changes
}

fn adopted(plan: &RunPlan, reading: &PrincipalReading, keys: &BTreeMap<CredentialId, KeyId>) -> Vec<RegisterChange> {
    let mut changes = Vec::new();
    for old in &plan.old {
        changes.push(RegisterChange::CredentialAdopted {
            id: old.id,
            reading: reading.clone(),
            key_id: keys.get(&old.id).cloned(),
        });
        if plan.kind == RunKind::TakeOver {
            changes.push(credential_to(old.id, CredentialState::Active));
            changes.push(RegisterChange::IdentityCurrent {
                id: plan.identity,
                credential: Some(old.id),
            });
        }
    }
    changes.push(identity_to(plan, IdentityState::Active));
    changes
}

/// Taking back after the pointer was moved moves it back first: consumers are sent to the old credential before the new one goes.
fn unwinding(run: &Run) -> Vec<RegisterChange> {
    let plan = run.plan();
    if run.promoted_at().is_none() {
        return Vec::new();
    }
    let mut changes: Vec<_> = plan
        .old
        .iter()
        .map(|old| credential_to(old.id, CredentialState::Active))
        .collect();
    let credential = plan.old.first().map(|old| old.id);
    changes.push(RegisterChange::IdentityCurrent {
        id: plan.identity,
        credential,
    });
    // Nothing of it is downstream any more, so that it can be provisioned again.
    if plan.kind == RunKind::Provision {
        changes.push(identity_to(plan, IdentityState::Requested));
    }
    changes
}

fn closed(run: &Run, at: Timestamp) -> Vec<RegisterChange> {
    let plan = run.plan();
    let mut changes = keeping::unjudged(run, at);
    if run.path() != Path::Unwinding {
        return changes;
    }
    let was_begun = run.was_begun(Step::IssueNew);
    if let Some(new) = &plan.new {
        // What was intended and never begun downstream has nothing to kill.
        if !was_begun {
            changes.push(credential_to(new.id, CredentialState::NeverIssued));
        }
        if !was_begun || run.was_never_issued() {
            changes.push(keeping::destroy_at(new.secret, at, SignedDuration::ZERO));
        }
    }
    if plan.kind == RunKind::Decommission {
        changes.push(identity_to(plan, came_from(plan)));
    }
    changes
}
