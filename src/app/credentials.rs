//! What is shown of an identity's credentials. Nothing of a secret is in it.

use std::collections::BTreeSet;

use super::{App, AppError, CredentialView};
use crate::domain::identity::{Credential, CredentialState};
use crate::domain::ids::IdentityId;

/// How many credentials `describe` shows beside those that may be alive.
const HISTORY: u32 = 100;

impl App {
    /// What may be alive, however old, and the newest of all others.
    pub(super) async fn history(
        &self,
        identity: IdentityId,
        in_play: &[Credential],
    ) -> Result<Vec<CredentialView>, AppError> {
        let mut shown = self.store.latest_credentials(identity, HISTORY).await?;
        let is_shown: BTreeSet<_> = shown.iter().map(|one| one.id).collect();
        let older = in_play.iter().rev().filter(|one| one.state.may_be_live());
        shown.extend(older.filter(|one| !is_shown.contains(&one.id)).cloned());
        Ok(shown.iter().map(credential_view).collect())
    }
}

pub(super) fn credential_view(credential: &Credential) -> CredentialView {
    let note = match &credential.state {
        CredentialState::Superseded { overlap_ends, .. } => Some(format!("overlap ends {overlap_ends:.0}")),
        CredentialState::Revoked { settling_until } => Some(format!("settles until {settling_until:.0}")),
        CredentialState::Dead { proof } => Some(format!("proven dead {:.0}", proof.proven_at())),
        CredentialState::AliveAfterRevoke { since } => Some(format!("still accepted {since:.0}")),
        CredentialState::Unprovable { why, .. } => Some(why.clone()),
        _ => None,
    };
    CredentialView {
        id: credential.id.to_string(),
        state: credential.state.name().to_owned(),
        account: credential.principal.name.clone(),
        key_id: credential.key_id.as_ref().map(|key| key.0.clone()),
        created_at: credential.created_at,
        proven_at: credential.proven_at,
        note,
    }
}
