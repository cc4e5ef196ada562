//! Ending the sessions that outlive a revoked credential.

use std::time::Duration;

use jiff::Timestamp;
use keyfall_sdk::{EndSessionsCall, ErrorKind, PrincipalRef, SessionsEnded};

use super::super::guard::GuardedConnector;
use super::accounts::{new_principal, old_principals};
use super::attempt::{Attempt, Ended, fail, failed};
use crate::domain::ids::CredentialId;
use crate::domain::proof::Round;
use crate::domain::workflow::StepOutput;

pub(super) async fn end_sessions(at: &mut Attempt<'_>) -> Ended<StepOutput> {
    let connector = at.system().await?;
    let new = new_principal(at.run);
    let mut total = SessionsEnded { ended: 0, left: 0 };
    for principal in old_principals(at.run) {
        let shared = match &new {
            Some(new) => new.name == principal.name,
            None => holds_others(at, &connector, &principal).await?,
        };
        let revoked = at.plan().old.iter().filter(|old| old.principal.name == principal.name);
        let revoked_at = revoked
            .filter_map(|old| at.run.progress(old.id).and_then(|progress| progress.revoked_at))
            .max();
        let ended = end(at, &connector, principal, revoked_at.filter(|_| shared)).await?;
        total.ended = total.ended.saturating_add(ended.ended);
        total.left = total.left.saturating_add(ended.left);
    }
    finish(total)
}

/// Of the credential that is taken back. Where the old one lives on the same account, its sessions are spared.
pub(super) async fn end_new_sessions(at: &mut Attempt<'_>) -> Ended<StepOutput> {
    let (Some(new), Some(principal), false) = (&at.plan().new, new_principal(at.run), at.run.was_never_issued()) else {
        return Ok(StepOutput::Nothing);
    };
    let connector = at.system().await?;
    let shared = at.plan().old.iter().any(|old| old.principal.name == principal.name);
    let revoked_at = at.run.progress(new.id).and_then(|progress| progress.revoked_at);
    let ended = end(at, &connector, principal, revoked_at.filter(|_| shared)).await?;
    finish(ended)
}

/// A revocation that needs time to spread lets somebody in behind the first end of sessions. No refused login would ever send them away.
pub(super) async fn end_those_let_in_late(at: &mut Attempt<'_>) -> Ended<()> {
    if at.plan().proof.settling.is_zero() {
        return Ok(());
    }
    let connector = at.system().await?;
    let new = new_principal(at.run);
    for principal in old_principals(at.run) {
        let shared = match &new {
            Some(new) => new.name == principal.name,
            None => holds_others(at, &connector, &principal).await?,
        };
        let of = at.plan().old.iter().filter(|old| old.principal.name == principal.name);
        let refused_at = of.filter_map(|old| refused_everywhere_at(at, old.id)).max();
        late(at, &connector, principal, refused_at, shared).await?;
    }
    Ok(())
}

/// The same for what the run itself had issued.
pub(super) async fn end_new_let_in_late(at: &mut Attempt<'_>) -> Ended<()> {
    let (Some(new), Some(principal), false) = (
        &at.plan().new,
        new_principal(at.run),
        at.run.was_never_issued() || at.plan().proof.settling.is_zero(),
    ) else {
        return Ok(());
    };
    let connector = at.system().await?;
    let shared = at.plan().old.iter().any(|old| old.principal.name == principal.name);
    let refused_at = refused_everywhere_at(at, new.id);
    late(at, &connector, principal, refused_at, shared).await
}

async fn late(
    at: &mut Attempt<'_>,
    connector: &GuardedConnector,
    principal: PrincipalRef,
    refused_at: Option<Timestamp>,
    shared: bool,
) -> Ended<()> {
    // What is still let in somewhere would only come back.
    let Some(refused_at) = refused_at else { return Ok(()) };
    let name = principal.name.clone();
    let ended = end(at, connector, principal, Some(refused_at).filter(|_| shared)).await?;
    if ended.ended > 0 {
        at.note(format!(
            "{} sessions of {name} that began while its revocation spread were ended",
            ended.ended
        ));
    }
    finish(ended).map(|_| ())
}

/// From when on no vantage let the credential in any more, as the rounds saw it: those recorded, and those of this attempt.
fn refused_everywhere_at(at: &Attempt<'_>, credential: CredentialId) -> Option<Timestamp> {
    let recorded = at.run.progress(credential).map(|progress| progress.rounds.as_slice());
    let rounds: Vec<&Round> = recorded
        .into_iter()
        .flatten()
        .chain(at.rounds_seen(credential))
        .collect();
    let since = |vantage: &String| {
        let of = rounds.iter().rev().filter(|round| round.vantage == *vantage);
        let refused = of.take_while(|round| round.old.is_refused());
        refused.map(|round| round.ended_at).min()
    };
    let all: Option<Vec<Timestamp>> = at.plan().proof.vantages.iter().map(since).collect();
    all?.into_iter().max()
}

/// Sessions that began behind the revocation of one of two credentials of an account are on the other one. Older ones may be on either.
async fn end(
    at: &mut Attempt<'_>,
    connector: &GuardedConnector,
    principal: PrincipalRef,
    spare_since: Option<Timestamp>,
) -> Ended<SessionsEnded> {
    let none = SessionsEnded { ended: 0, left: 0 };
    let age = spare_since.map(|since| Duration::try_from(at.now().duration_since(since)).unwrap_or(Duration::ZERO));
    let call = EndSessionsCall {
        principal: principal.clone(),
        spare_younger_than: age,
    };
    match connector.end_sessions(at.ctx(&principal.name), call).await {
        Ok(ended) => Ok(ended),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(none),
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            if connector.descriptor().sessions_survive {
                at.note(format!(
                    "sessions of {} outlive the credential and cannot be ended here",
                    principal.name
                ));
            }
            Ok(none)
        }
        Err(error) => Err(failed(&error)),
    }
}

/// Without a new credential in the plan, whether the account still holds another one is read.
async fn holds_others(at: &Attempt<'_>, connector: &GuardedConnector, principal: &PrincipalRef) -> Ended<bool> {
    let reading = connector.read(at.ctx(&principal.name), principal.clone()).await?;
    Ok(reading.states().any(|state| !state.key_ids.is_empty()))
}

fn finish(ended: SessionsEnded) -> Ended<StepOutput> {
    if ended.left > 0 {
        return Err(fail(
            ErrorKind::Transient,
            format!("{} sessions could not be ended yet", ended.left),
        ));
    }
    Ok(StepOutput::SessionsEnded { ended })
}
