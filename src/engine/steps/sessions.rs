//! Ending the sessions that outlive a revoked credential.

use std::time::Duration;

use jiff::Timestamp;
use keyfall_sdk::{EndSessionsCall, ErrorKind, PrincipalRef, SessionsEnded};

use super::super::guard::GuardedConnector;
use super::accounts::{new_principal, old_principals};
use super::attempt::{Attempt, Ended, fail, failed};
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
