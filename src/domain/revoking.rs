//! Which credential a person may have revoked. One that somebody may be using is ended only where another one was proven to be there for
//! them (P3), and one that we did not mint is a finding, never garbage (P5).

use super::identity::{Credential, CredentialState};
use super::ids::CredentialId;

/// Why a credential is not to be revoked. The text says what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotRevoke {
    #[error(
        "{0} is not ours to end: take its account over with `keyfall adopt NAME --take-over …` and rotate it, or decommission the identity"
    )]
    Foreign(CredentialId),
    #[error("{0} is the last proven-good credential of its identity: rotate it, or decommission the identity")]
    LastGood(CredentialId),
    #[error("{0} cannot log in any more: it is proven dead, or was never issued")]
    Over(CredentialId),
}

/// Its end was asked for before, and is not proven.
#[must_use]
pub fn was_ended(state: &CredentialState) -> bool {
    matches!(
        state,
        CredentialState::Revoking
            | CredentialState::Revoked { .. }
            | CredentialState::AliveAfterRevoke { .. }
            | CredentialState::Unprovable { .. }
            | CredentialState::Lost
    )
}

/// # Errors
/// When the credential is foreign or dead, or the identity has no other one that is active and proven.
pub fn may_be_revoked(
    wanted: &Credential,
    current: Option<CredentialId>,
    all: &[Credential],
) -> Result<(), CannotRevoke> {
    if wanted.state == CredentialState::Foreign {
        return Err(CannotRevoke::Foreign(wanted.id));
    }
    if !wanted.state.may_be_live() {
        return Err(CannotRevoke::Over(wanted.id));
    }
    let is_good = |one: &&Credential| {
        one.id != wanted.id && one.proven_at.is_some() && matches!(one.state, CredentialState::Active)
    };
    if current == Some(wanted.id) || (!was_ended(&wanted.state) && !all.iter().any(|one| is_good(&one))) {
        return Err(CannotRevoke::LastGood(wanted.id));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    //! The last good credential and foreign ones are refused; what was to be ended already is not.

    use jiff::Timestamp;
    use keyfall_sdk::PrincipalRef;

    use super::{CannotRevoke, may_be_revoked};
    use crate::domain::identity::{Credential, CredentialState};
    use crate::domain::ids::{CredentialId, IdentityId};

    fn credential(number: u128, state: CredentialState) -> Credential {
        Credential {
            id: CredentialId::from_uuid(uuid::Uuid::from_u128(number)),
            identity: IdentityId::from_uuid(uuid::Uuid::from_u128(1)),
            principal: PrincipalRef {
                name: "app".to_owned(),
                immutable_id: None,
            },
            key_id: None,
            secret: None,
            state,
            created_at: Timestamp::UNIX_EPOCH,
            proven_at: Some(Timestamp::UNIX_EPOCH),
            expires_at: None,
        }
    }

    /// Row 22.
    #[test]
    fn a_foreign_credential_and_the_last_good_one_stay() {
        let foreign = credential(1, CredentialState::Foreign);
        let active = credential(2, CredentialState::Active);
        let left = credential(
            3,
            CredentialState::AliveAfterRevoke {
                since: Timestamp::UNIX_EPOCH,
            },
        );
        let both = [foreign.clone(), active.clone(), left.clone()];
        assert_eq!(
            may_be_revoked(&foreign, None, &both),
            Err(CannotRevoke::Foreign(foreign.id))
        );
        assert_eq!(
            may_be_revoked(&active, None, &both),
            Err(CannotRevoke::LastGood(active.id))
        );
        assert_eq!(may_be_revoked(&left, Some(active.id), &both), Ok(()));
        let never = credential(5, CredentialState::NeverIssued);
        assert_eq!(
            may_be_revoked(&never, Some(active.id), &both),
            Err(CannotRevoke::Over(never.id))
        );
        let other = credential(4, CredentialState::Active);
        assert_eq!(
            may_be_revoked(&active, Some(other.id), &[active.clone(), other.clone()]),
            Ok(())
        );
        assert_eq!(
            may_be_revoked(&other, Some(other.id), &[active, other.clone()]),
            Err(CannotRevoke::LastGood(other.id))
        );
    }
}
