//! The point of no return: ending old credentials, each by the key id that was recorded and by nothing else (P5).

use std::collections::BTreeMap;

use keyfall_sdk::{ErrorKind, IssueCall, IssueObservation, KeyId, Placement, PrincipalRef, RevokeCall, Revoked};

use super::super::guard::GuardedConnector;
use super::attempt::{Attempt, Ended};
use super::{ready, twins};
use crate::domain::workflow::{OldCredential, StepOutput};

const BY_HAND: &str = "end that credential by hand in the system";

pub(super) async fn revoke_old(at: &mut Attempt<'_>) -> Ended<StepOutput> {
    ready::new_is_proven(at)?;
    let connector = at.system().await?;
    let mut outcomes = BTreeMap::new();
    for old in &at.plan().old {
        let outcome = match key_of(at, &connector, old).await? {
            Found::Key { principal, key_id } => revoke(at, &connector, principal, key_id).await?,
            Found::Gone => Revoked::AlreadyGone,
        };
        outcomes.insert(old.id, outcome);
    }
    // One issue call makes one credential. A second one goes with the old: it is nobody's, and no proof would ever look at it. In an emergency the
    // leaked one is gone by now.
    if let Some(new) = &at.plan().new
        && connector.keeps_markers()
    {
        twins::clear(at, &connector, new).await?;
    }
    Ok(StepOutput::Revoked { outcomes })
}

pub(super) async fn revoke(
    at: &mut Attempt<'_>,
    connector: &GuardedConnector,
    principal: PrincipalRef,
    key_id: KeyId,
) -> Ended<Revoked> {
    let about = key_id.0.clone();
    match connector.revoke(at.ctx(&about), RevokeCall { principal, key_id }).await {
        Ok(outcome) => Ok(outcome),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Revoked::AlreadyGone),
        Err(error) => Err(at.conflict_asks(&error, BY_HAND)),
    }
}

pub(super) enum Held {
    Key(KeyId),
    Nothing,
    Unknown { why: String },
}

enum Found {
    Key { principal: PrincipalRef, key_id: KeyId },
    Gone,
}

/// The recorded key id; for a credential whose issue was never answered, the one that its own secret is found under.
async fn key_of(at: &mut Attempt<'_>, connector: &GuardedConnector, old: &OldCredential) -> Ended<Found> {
    if let Some(key_id) = &old.key_id {
        return Ok(Found::Key {
            principal: old.principal.clone(),
            key_id: key_id.clone(),
        });
    }
    let name = &old.principal.name;
    let reading = connector.read(at.ctx(name), old.principal.clone()).await?;
    let Some(state) = reading.states().next() else {
        return Ok(Found::Gone);
    };
    let principal = PrincipalRef {
        name: name.clone(),
        immutable_id: old
            .principal
            .immutable_id
            .clone()
            .or_else(|| Some(state.immutable_id.clone())),
    };
    match held(at, connector, old, principal.clone()).await? {
        Held::Key(key_id) => Ok(Found::Key { principal, key_id }),
        Held::Nothing => Ok(Found::Gone),
        Held::Unknown { why } => Err(unknown_key(at, old, &why)),
    }
}

/// Which credential of the account a recorded secret is, as the account itself shows.
pub(super) async fn held(
    at: &Attempt<'_>,
    connector: &GuardedConnector,
    old: &OldCredential,
    principal: PrincipalRef,
) -> Ended<Held> {
    let secret = match old.secret {
        Some(id) => at.secret_if_kept(id).await?,
        None => None,
    };
    let Some(secret) = secret else {
        return Ok(Held::Unknown {
            why: "neither its key id nor its secret is recorded".to_owned(),
        });
    };
    let call = IssueCall {
        principal,
        secret,
        placement: Placement::Alongside,
        replaces: Vec::new(),
        marker: at.run.id().to_string(),
        access: at.plan().access.clone(),
    };
    Ok(match connector.observe(at.ctx(&old.principal.name), call).await? {
        IssueObservation::Applied(issued) => Held::Key(issued.key_id),
        IssueObservation::NotApplied => Held::Nothing,
        IssueObservation::Unknown { why } => Held::Unknown { why },
    })
}

fn unknown_key(at: &Attempt<'_>, old: &OldCredential, why: &str) -> super::super::report::StepEnd {
    at.ask_to_resume(
        format!(
            "which credential of {} is {} cannot be told: {why}",
            old.principal.name, old.id
        ),
        BY_HAND,
    )
}
