//! Nothing is opened, and a credential ends by itself soon: the freeze and the end contradict one another, and neither gives way silently. Its
//! owner is told as long as there is time to decide.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use super::Shared;
use super::findings::{self, ENDS_MEANWHILE, Severity, about_identity};
use super::telling::{commit_findings, open_among};
use crate::domain::due::DueReason;
use crate::domain::identity::{Identity, IdentityState};
use crate::domain::ids::IdentityId;
use crate::store::StoreError;

const BATCH: u32 = 500;
/// So long before the rotation has to begin that keeps an end.
const NOTICE: SignedDuration = SignedDuration::from_hours(72);

/// The rotation that keeps an end has to begin soon.
pub(super) fn is_close(identity: &Identity, now: Timestamp) -> bool {
    let soon = now.saturating_add(NOTICE).unwrap_or(Timestamp::MAX);
    let is_close = identity
        .due
        .is_some_and(|(at, reason)| reason == DueReason::Expiring && at <= soon);
    is_close && identity.state == IdentityState::Active && identity.spec.expires > now
}

/// `why`: what stands still, for people.
///
/// # Errors
/// When the store does not answer.
pub(super) async fn look(shared: &Shared, why: &str, now: Timestamp) -> Result<(), StoreError> {
    let soon = now.saturating_add(NOTICE).unwrap_or(Timestamp::MAX);
    let mut after = None;
    loop {
        let page = shared.store.due_identities(soon, after, BATCH).await?;
        after = page.last().map(|due| (due.due_at, due.id));
        let ending: HashMap<IdentityId, Timestamp> = page
            .iter()
            .filter(|due| due.reason == DueReason::Expiring)
            .map(|due| (due.id, due.due_at))
            .collect();
        let ids: Vec<IdentityId> = ending.keys().copied().collect();
        let mut identities = shared.store.identities_with(&ids).await?;
        identities.retain(|identity| is_close(identity, now));
        let known = open_among(shared, ENDS_MEANWHILE, &identities).await?;
        let unsaid = identities.iter().filter(|identity| !known.contains(&identity.name));
        let facts = unsaid.map(|identity| {
            let by = ending.get(&identity.id).map(|at| format!("{at:.0}")).unwrap_or_default();
            let text = format!(
                "the credential of `{}` ends by itself, and the rotation that keeps it alive has to begin by {by}; nothing is opened now: {why}. Decide which of the two gives way before then",
                identity.name
            );
            let wrong = about_identity(identity, ENDS_MEANWHILE, Severity::High, text);
            findings::raised(&shared.env, now, wrong)
        });
        commit_findings(shared, facts.collect(), now).await?;
        if page.len() < BATCH as usize || shared.is_stopping() {
            return Ok(());
        }
    }
}
