//! The receipt of a run that is about to close: its body, and the row that is stored with the closing event. Signing and the place in the log
//! come later, when the entry has its position. This file states what the run's own log says and judges nothing.

use jiff::Timestamp;

use super::report::Closing;
use crate::clock::Environment;
use crate::domain::ids::{CredentialId, ReceiptId};
use crate::domain::workflow::{Death, Outcome, Path, Run, Skipped, Step, Trigger};
use crate::evidence::receipt::{
    CredentialEnd, CredentialEvidence, DeclaredDone, ExceptionFacts, FORMAT, IdentityFacts, ReceiptBody, RunFacts,
    SystemFacts, vantage_evidence,
};
use crate::evidence::record::ExceptionCause;
use crate::store::{Fact, ReceiptRow};
use keyfall_sdk::PrincipalRef;

/// A run that ended no credential has no receipt.
#[must_use]
pub fn closing(run: &Run, outcome: &Outcome, at: Timestamp, env: &Environment) -> Closing {
    let id = ReceiptId::from_uuid(env.draw_uuid());
    let Some(body) = body(run, outcome, at, id) else {
        return Closing::default();
    };
    let bytes = match body.to_bytes() {
        Ok(bytes) => bytes,
        Err(error) => {
            tracing::error!(run.id = %run.id(), error = &error as &dyn std::error::Error, "the receipt could not be written");
            return Closing::default();
        }
    };
    let digest = ReceiptBody::digest_of(&bytes);
    let row = ReceiptRow {
        id,
        run: run.id(),
        identity: run.plan().identity,
        body: bytes,
        body_digest: digest,
        closing_seq: run.next_seq(),
        log_position: None,
        at,
    };
    Closing {
        facts: vec![Fact::Receipt(row)],
        receipt_digest: Some(digest),
    }
}

/// What the receipt says; `None` when no credential was ended.
#[must_use]
pub fn body(run: &Run, outcome: &Outcome, at: Timestamp, id: ReceiptId) -> Option<ReceiptBody> {
    let plan = run.plan();
    let credentials = ended(run);
    if credentials.is_empty() {
        return None;
    }
    Some(ReceiptBody {
        format: FORMAT.to_owned(),
        id,
        run: RunFacts {
            id: run.id(),
            kind: plan.kind,
            trigger: plan.trigger,
            initiator: plan.initiator.clone(),
            opened_at: plan.timing.opened_at,
            closed_at: at,
        },
        identity: IdentityFacts {
            id: plan.identity,
            name: plan.identity_name.clone(),
            owner: plan.owner.clone(),
            environment: plan.environment.clone(),
        },
        system: SystemFacts {
            id: plan.system,
            name: plan.system_name.clone(),
            connector: plan.connector.clone(),
            endpoint_digest: plan.endpoint_digest,
        },
        approval: plan.approval.clone(),
        exceptions: exceptions(run),
        by_hand: run.skipped().iter().map(declared_done).collect(),
        credentials,
        outcome: outcome.clone(),
    })
}

fn declared_done(skipped: &Skipped) -> DeclaredDone {
    DeclaredDone {
        step: skipped.step,
        by: skipped.by.clone(),
        reason: skipped.reason.clone(),
    }
}

/// What an approved exception, an emergency that met the run, and people left out.
fn exceptions(run: &Run) -> Vec<ExceptionFacts> {
    let plan = run.plan();
    let cause = match plan.trigger {
        Trigger::BreakGlass => ExceptionCause::BreakGlass,
        Trigger::Schedule | Trigger::Request | Trigger::Apply => ExceptionCause::HumanOverride,
    };
    let approved = plan.exception.iter().map(|note| ExceptionFacts {
        cause,
        note: note.clone(),
    });
    let hastened = run.hastened().map(|hastened| {
        let approvers: Vec<_> = hastened
            .approval
            .approvers
            .iter()
            .map(|one| one.name.as_str())
            .collect();
        ExceptionFacts {
            cause: ExceptionCause::BreakGlass,
            note: format!(
                "{} made an emergency of it, approved by {} ({}, {}): {}",
                hastened.by.label(),
                approvers.join(", "),
                hastened.approval.plan,
                hastened.approval.plan_digest,
                hastened.reason
            ),
        }
    });
    let by_hand = run.skipped().iter().map(|skipped| ExceptionFacts {
        cause: ExceptionCause::HumanOverride,
        note: format!(
            "{} went past {}: {}",
            skipped.by.label(),
            skipped.step.name(),
            skipped.reason
        ),
    });
    approved.chain(hastened).chain(by_hand).collect()
}

/// On the way forward the old credentials; on the way back the new one.
fn ended(run: &Run) -> Vec<CredentialEvidence> {
    let plan = run.plan();
    match run.path() {
        Path::Forward if run.steps().contains(&Step::ProveDead) => plan
            .old
            .iter()
            .map(|old| {
                let key_id = old.key_id.as_ref().map(|key| key.0.clone());
                evidence(run, old.id, key_id, old.principal.clone(), old.secret.is_some())
            })
            .collect(),
        Path::Unwinding if run.steps().contains(&Step::ProveNewDead) => plan
            .new
            .iter()
            .map(|new| {
                let issued = run.issued();
                let key_id = issued.map(|issued| issued.key_id.0.clone());
                let principal = issued.map_or_else(|| new.principal.clone(), |issued| issued.principal.clone());
                evidence(run, new.id, key_id, principal, true)
            })
            .collect(),
        Path::Forward | Path::Unwinding => Vec::new(),
    }
}

fn evidence(
    run: &Run,
    id: CredentialId,
    key_id: Option<String>,
    principal: PrincipalRef,
    has_secret: bool,
) -> CredentialEvidence {
    let plan = run.plan();
    let progress = run.progress(id).cloned().unwrap_or_default();
    let end = end(run, id);
    let proven_at = match &end {
        CredentialEnd::Dead { proven_at } => Some(*proven_at),
        _ => None,
    };
    CredentialEvidence {
        id,
        key_id,
        principal,
        revoked_at: progress.revoked_at,
        terms: plan.proof.clone(),
        vantages: vantage_evidence(&plan.proof, &progress),
        sessions: run.sessions_ended(),
        secret_destroyed_by: proven_at
            .filter(|_| has_secret)
            .and_then(|at| at.checked_add(plan.timing.keep_dead_secret).ok()),
        end,
    }
}

fn end(run: &Run, id: CredentialId) -> CredentialEnd {
    let is_new = run.plan().new.as_ref().is_some_and(|new| new.id == id);
    match run.deaths().get(&id) {
        Some(Death::Proven { proven_at }) => CredentialEnd::Dead { proven_at: *proven_at },
        Some(Death::Alive { since }) => CredentialEnd::AliveAfterRevoke { since: *since },
        Some(Death::Unprovable { best, why }) => CredentialEnd::Unprovable {
            best: *best,
            why: why.clone(),
        },
        None if is_new && run.was_never_issued() => CredentialEnd::NeverLive {
            why: "reading downstream showed that the issue call never took effect".to_owned(),
        },
        None => CredentialEnd::Unprovable {
            best: None,
            why: "a person sent the run past its proof".to_owned(),
        },
    }
}
