//! Which credentials a run ends, which one it makes, and on which accounts.

use keyfall_sdk::{Placement, PrincipalRef, Strategy};

use super::super::identity::{Credential, CredentialState};
use super::super::revoking::{may_be_revoked, was_ended};
use super::super::workflow::{NewCredential, OldCredential, RunKind};
use super::{CannotPlan, Drawn, Registered, RunRequest, account_names};

/// The credentials that the run ends.
pub(super) fn ending(
    registered: &Registered<'_>,
    request: &RunRequest,
    current: Option<&Credential>,
) -> Result<Vec<OldCredential>, CannotPlan> {
    let identity = registered.identity;
    let live = || registered.credentials.iter().filter(|one| one.state.may_be_live());
    match request.kind {
        RunKind::Provision => Ok(Vec::new()),
        RunKind::Rotate | RunKind::EmergencyRotate => match current {
            Some(current) => Ok(vec![old_credential(registered, current)]),
            None => Err(CannotPlan::NothingToReplace {
                identity: identity.name.clone(),
            }),
        },
        RunKind::Revoke => {
            let missing = || CannotPlan::NoSuchCredential {
                identity: identity.name.clone(),
                credential: request.credential.map(|id| id.to_string()).unwrap_or_default(),
            };
            let wanted = live()
                .find(|one| Some(one.id) == request.credential)
                .ok_or_else(missing)?;
            may_be_revoked(wanted, identity.current, registered.credentials)?;
            Ok(vec![old_credential(registered, wanted)])
        }
        RunKind::Decommission | RunKind::Adopt | RunKind::TakeOver => {
            Ok(live().map(|one| old_credential(registered, one)).collect())
        }
    }
}

fn old_credential(registered: &Registered<'_>, credential: &Credential) -> OldCredential {
    let ended_before = was_ended(&credential.state);
    let lives = registered.lives.get(&credential.id).filter(|_| ended_before);
    OldCredential {
        ended_before,
        accepted: lives.cloned().unwrap_or_default(),
        id: credential.id,
        secret: credential.secret,
        principal: credential.principal.clone(),
        key_id: credential.key_id.clone(),
        issued: !matches!(credential.state, CredentialState::Intended),
    }
}

pub(super) fn new_credential(
    registered: &Registered<'_>,
    strategy: Strategy,
    current: Option<&Credential>,
    drawn: Drawn,
) -> NewCredential {
    let principal = match (strategy, current) {
        // One account: the one that is in use, which an adopted identity may have under another name than its manifest's.
        (Strategy::DualSlot | Strategy::InPlace, Some(current)) => current.principal.clone(),
        _ => {
            let names = account_names(&registered.identity.spec.account, strategy);
            let in_use = current.map(|one| one.principal.name.as_str());
            let name = names.into_iter().find(|name| Some(name.as_str()) != in_use);
            known_account(
                registered,
                name.unwrap_or_else(|| registered.identity.spec.account.clone()),
            )
        }
    };
    let placement = match strategy {
        Strategy::DualSlot => Placement::Alongside,
        Strategy::AlternatingAccounts | Strategy::InPlace => Placement::Replace,
    };
    NewCredential {
        id: drawn.credential,
        secret: drawn.secret,
        principal,
        placement,
    }
}

/// The account by the immutable id under which we last knew it; one that was never made by us has none yet.
fn known_account(registered: &Registered<'_>, name: String) -> PrincipalRef {
    let known = registered
        .credentials
        .iter()
        .rev()
        .find(|one| one.principal.name == name && one.principal.immutable_id.is_some());
    known.map_or(
        PrincipalRef {
            name,
            immutable_id: None,
        },
        |one| one.principal.clone(),
    )
}

pub(super) fn accounts(registered: &Registered<'_>) -> Vec<PrincipalRef> {
    let mut accounts: Vec<PrincipalRef> = Vec::new();
    for credential in registered.credentials.iter().rev() {
        let known = accounts.iter().any(|one| one.name == credential.principal.name);
        if !known && credential.principal.immutable_id.is_some() {
            accounts.push(credential.principal.clone());
        }
    }
    accounts
}
