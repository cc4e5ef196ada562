//! What a run of each kind must have come to, by how it ended: completed means that what was asked for is true downstream, taken back means that
//! everything is as it was, and a run that asks a person says what to do.

use super::{Case, Slate, is_over};
use crate::domain::identity::{CredentialState, IdentityState};
use crate::domain::ids::{CredentialId, RunId};
use crate::domain::workflow::{Outcome, Run, RunKind, RunStatus};

pub(super) async fn goals(case: &Case<'_>, id: RunId, before: &Slate) -> Vec<String> {
    let stored = case.store.run(id).await.unwrap().unwrap();
    let run = Run::replay(&stored.events).unwrap();
    let now = Slate::read(case.store, case.truth, case.identity, "").await;
    match run.status() {
        RunStatus::Open => vec!["the run is still open".to_owned()],
        RunStatus::NeedsOperator {
            reason, manual_step, ..
        } => {
            let is_told = !reason.is_empty() && !manual_step.is_empty();
            Vec::from_iter((!is_told).then(|| "a person is asked and not told what to do".to_owned()))
        }
        RunStatus::Closed { outcome } => match outcome {
            Outcome::Completed => completed(case, &run, before, &now).await,
            Outcome::Unwound { .. } => taken_back(case, &run, before, &now).await,
            Outcome::Unprovable { .. } => Vec::new(),
            Outcome::AliveAfterRevoke { .. } => {
                vec!["an honest provider went on accepting what was revoked".to_owned()]
            }
        },
    }
}

async fn completed(case: &Case<'_>, run: &Run, before: &Slate, now: &Slate) -> Vec<String> {
    let plan = run.plan();
    let mut wrong = Vec::new();
    let mut must = |holds: bool, what: &str| {
        if !holds {
            wrong.push(format!("completed {}: {what}", plan.kind.name()));
        }
    };
    let identity = now.identity.as_ref().unwrap();
    let was = before.identity.as_ref().unwrap();
    match plan.kind {
        RunKind::Provision | RunKind::Rotate | RunKind::EmergencyRotate => {
            let new = plan.new.as_ref().unwrap();
            must(identity.state == IdentityState::Active, "the identity is not active");
            must(
                identity.current == Some(new.id),
                "the new credential is not the current one",
            );
            must(
                state_of(case, new.id).await == Some(CredentialState::Active),
                "the new credential is not active",
            );
            must(
                holds(case, now, new.secret).await,
                "the destination does not hold the new secret",
            );
        }
        RunKind::Revoke => {
            must(identity.current == was.current, "the current credential is another one");
            must(same_secret(now, before), "the destination holds something else");
        }
        RunKind::Decommission => {
            must(
                identity.state == IdentityState::Decommissioned,
                "the identity is not decommissioned",
            );
            must(now.accounts.is_empty(), "an account of it exists");
            must(now.delivered.is_none(), "its destination still holds a secret");
        }
        RunKind::Adopt | RunKind::TakeOver => {
            must(now.accounts == before.accounts, "adopting changed an account");
            let is_ours = plan.kind == RunKind::Adopt || identity.current == plan.old.first().map(|old| old.id);
            must(is_ours, "what was taken over is not its credential");
        }
    }
    if !matches!(plan.kind, RunKind::Adopt | RunKind::TakeOver) {
        for old in &plan.old {
            let state = state_of(case, old.id).await;
            must(
                state.is_some_and(|state| is_over(&state)),
                "what was to be ended is not over",
            );
        }
    }
    wrong
}

/// The clean slate: what was there before is there, and nothing else.
async fn taken_back(case: &Case<'_>, run: &Run, before: &Slate, now: &Slate) -> Vec<String> {
    let mut wrong = Vec::new();
    if now.accounts != before.accounts {
        wrong.push(format!(
            "taken back: {:?} was there, and {:?} is",
            before.accounts, now.accounts
        ));
    }
    if !same_secret(now, before) {
        wrong.push("taken back: the destination does not hold what it held".to_owned());
    }
    let of = |slate: &Slate| slate.identity.as_ref().map(|one| (one.current, one.state));
    if of(now) != of(before) {
        wrong.push(format!(
            "taken back: the identity was {:?} and is {:?}",
            of(before),
            of(now)
        ));
    }
    if let Some(new) = &run.plan().new {
        let state = state_of(case, new.id).await;
        if !state.as_ref().is_some_and(is_over) {
            wrong.push(format!(
                "taken back: the new credential is {:?}",
                state.map(|state| state.name())
            ));
        }
    }
    wrong
}

fn same_secret(one: &Slate, other: &Slate) -> bool {
    match (&one.delivered, &other.delivered) {
        (Some(one), Some(other)) => one.matches(other),
        (one, other) => one.is_none() && other.is_none(),
    }
}

async fn holds(case: &Case<'_>, now: &Slate, secret: crate::domain::ids::SecretId) -> bool {
    let Some(delivered) = &now.delivered else { return false };
    super::opened(case, secret)
        .await
        .is_some_and(|secret| secret.matches(delivered))
}

async fn state_of(case: &Case<'_>, id: CredentialId) -> Option<CredentialState> {
    Some(case.store.credential(id).await.unwrap()?.state)
}
