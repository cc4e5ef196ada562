//! What came due while nothing could be opened: the server was off, everything was frozen, or the breaker was open. Where that is more for one
//! policy than its budget lets end in one window, it is not opened in one instant, with both credentials of each alive until its turn comes:
//! each identity gets a place of its own in as many windows as the budget needs. Nobody is put off behind an end that it has.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{Shared, housekeeping, record};
use crate::domain::due::{DueReason, GRACE, place_in};
use crate::domain::identity::Identity;
use crate::domain::ids::IdentityId;
use crate::domain::landscape::Landscape;
use crate::domain::resource::{Autonomy, PolicySpec};
use crate::store::{Commit, Fact, StoreError};

const BATCH: u32 = 500;
/// So many at once are no stampede, whatever the budget.
const FEW: usize = 20;
/// Nobody waits longer than this for a place.
const LONGEST: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Before an end of its own nobody is put off.
const BEFORE_AN_END: SignedDuration = SignedDuration::from_hours(24);

/// Late identities of one policy.
struct Late<'a> {
    policy: &'a PolicySpec,
    identities: Vec<(IdentityId, DueReason)>,
}

/// Called when something may be opened again. Twice is once: who has a place is not late.
///
/// # Errors
/// When the store does not answer.
pub(super) async fn spread(shared: &Arc<Shared>) -> Result<(), StoreError> {
    let now = record::to_micros(shared.env.now());
    let register = shared.register.current(&*shared.store).await?;
    for (name, late) in late_by_policy(shared, &register, now).await? {
        let count = late.identities.len();
        let limit = usize::try_from(late.policy.budget.destructive)
            .unwrap_or(usize::MAX)
            .max(1);
        if count <= FEW || count <= limit {
            continue;
        }
        let windows = i32::try_from(count.div_ceil(limit)).unwrap_or(i32::MAX);
        let over = late
            .policy
            .budget
            .per
            .checked_mul(windows)
            .unwrap_or(LONGEST)
            .min(LONGEST);
        tracing::warn!(policy = name, identities = count, over = %format!("{over:#}"), "what came due meanwhile is spread over the budget's windows");
        put_off(shared, &name, &late, over, now).await?;
    }
    Ok(())
}

async fn late_by_policy<'a>(
    shared: &Shared,
    register: &'a Landscape,
    now: Timestamp,
) -> Result<HashMap<String, Late<'a>>, StoreError> {
    let before = now.saturating_sub(GRACE).unwrap_or(Timestamp::MIN);
    let mut late: HashMap<String, Late<'a>> = HashMap::new();
    let mut after = None;
    loop {
        let page = shared.store.due_identities(before, after, BATCH).await?;
        after = page.last().map(|due| (due.due_at, due.id));
        let ids: Vec<IdentityId> = page
            .iter()
            .filter(|due| may_wait(due.reason))
            .map(|due| due.id)
            .collect();
        let mut identities = shared.store.identities_with(&ids).await?;
        identities.retain(|identity| !identity.is_control);
        for identity in &identities {
            let Some(((_, reason), holding)) = identity.due.zip(register.policy_of(identity)) else {
                continue;
            };
            // What waits for a person stampedes nobody, and stays overdue.
            if holding.policy.autonomy != Autonomy::Automatic {
                continue;
            }
            let of_policy = late.entry(holding.name.to_owned()).or_insert_with(|| Late {
                policy: holding.policy,
                identities: Vec::new(),
            });
            of_policy.identities.push((identity.id, reason));
        }
        if page.len() < BATCH as usize || shared.is_stopping() {
            return Ok(late);
        }
    }
}

/// An end of its own, a leak and a person wait for nobody.
fn may_wait(reason: DueReason) -> bool {
    match reason {
        DueReason::MaxAge | DueReason::PolicyChanged | DueReason::OwnerLeft => true,
        DueReason::Compromised | DueReason::Expiring | DueReason::Requested => false,
    }
}

async fn put_off(
    shared: &Shared,
    policy: &str,
    late: &Late<'_>,
    over: SignedDuration,
    now: Timestamp,
) -> Result<(), StoreError> {
    for chunk in late.identities.chunks(BATCH as usize) {
        let ids: Vec<IdentityId> = chunk.iter().map(|(id, _)| *id).collect();
        let identities = shared.store.identities_with(&ids).await?;
        let identities: HashMap<IdentityId, Identity> = identities.into_iter().map(|one| (one.id, one)).collect();
        let mut ends: HashMap<IdentityId, Timestamp> = HashMap::new();
        for credential in shared.store.credentials_in_play_of_many(&ids).await? {
            let is_current = identities
                .get(&credential.identity)
                .is_some_and(|one| one.current == Some(credential.id));
            if let Some(end) = credential.expires_at.filter(|_| is_current) {
                ends.insert(credential.identity, end);
            }
        }
        let facts = chunk.iter().filter_map(|(id, reason)| {
            let identity = identities.get(id)?;
            let at = place_in(over, now, *id);
            let end = ends
                .get(id)
                .copied()
                .unwrap_or(Timestamp::MAX)
                .min(identity.spec.expires);
            let is_in_time = at.saturating_add(BEFORE_AN_END).is_ok_and(|latest| latest < end);
            let was = identity
                .due
                .filter(|(due, is)| *due <= now && is == reason && is_in_time)?;
            // Only while it stands so: a rotation may have been completed by now, or a leak become known.
            Some(Fact::IdentityPutOff { id: *id, was, to: at })
        });
        let facts: Vec<Fact> = facts.collect();
        let details = serde_json::json!({ "policy": policy, "identities": facts.len(), "over": format!("{over:#}") });
        let commit = Commit {
            facts,
            log: vec![housekeeping::act_entry(shared, now, "late_spread", details)],
            ..Commit::default()
        };
        shared.store.commit(commit).await?;
    }
    Ok(())
}
