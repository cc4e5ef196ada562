//! What is done now and then beside the runs: dead secrets are destroyed on record when their deadline has passed (P8), and identities that
//! expire, or have expired, become findings while there is time to act. Control identities, whose expiry nobody else could move, are renewed.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::findings::{self, Severity, Wrong, about_identity};
use super::telling::{commit_findings, open_among};
use super::{Shared, measure, record};
use crate::domain::control::CONTROL_LIFE;
use crate::domain::identity::Identity;
use crate::domain::ids::{ActId, IdentityId, SecretId};
use crate::evidence::audit::Act;
use crate::evidence::record::ExceptionCause;
use crate::store::{Commit, Committed, Fact, Guard, LogEntry, SCRUB_OWED, StoreError};

const BATCH: u32 = 200;
/// How long before its expiry an identity is spoken about.
pub(super) const NOTICE: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Destroys what is over its deadline and scrubs what the store left of it. Answers how many secrets were destroyed.
pub(super) async fn destroy_secrets(shared: &Shared) -> Result<u32, StoreError> {
    let mut destroyed: u32 = 0;
    loop {
        let now = record::to_micros(shared.env.now());
        let due = shared.store.secrets_to_destroy(now, BATCH).await?;
        if due.is_empty() {
            break;
        }
        let count = u32::try_from(due.len()).unwrap_or(u32::MAX);
        match shared.store.commit(destruction(shared, &due, now).await?).await? {
            Committed::Stored => destroyed = destroyed.saturating_add(count),
            // A run that needs one of them put its deadline off meanwhile.
            Committed::Refused { .. } if shared.is_stopping() => break,
            Committed::Refused { .. } => continue,
        }
        if count < BATCH || shared.is_stopping() {
            break;
        }
    }
    // Also what an earlier pass, or a person, left: a scrub that did not succeed stays owed.
    if shared.store.setting(SCRUB_OWED).await?.is_some() {
        shared.store.scrub().await?;
    }
    if destroyed > 0 {
        measure::secrets_destroyed(u64::from(destroyed));
        tracing::info!(secrets = destroyed, "secrets whose deadline had passed were destroyed");
    }
    Ok(destroyed)
}

/// The setting that names the last backup, and when it was made.
pub const LAST_BACKUP: &str = "last_backup";

/// The record names the secrets and the last backup that still holds them sealed.
async fn destruction(shared: &Shared, secrets: &[SecretId], at: Timestamp) -> Result<Commit, StoreError> {
    let last_backup = shared.store.setting(LAST_BACKUP).await?;
    let names: Vec<String> = secrets.iter().map(ToString::to_string).collect();
    let details = serde_json::json!({ "secrets": names, "last_backup": last_backup });
    let due = |id: &SecretId| Guard::SecretDue { id: *id, now: at };
    Ok(Commit {
        guards: secrets.iter().map(due).collect(),
        facts: secrets.iter().map(|id| Fact::SecretDestroyed { id: *id, at }).collect(),
        log: vec![act_entry(shared, at, "secrets_destroyed", details)],
    })
}

/// An act of the engine itself, as a log entry.
pub(super) fn act_entry(shared: &Shared, at: Timestamp, action: &str, details: serde_json::Value) -> LogEntry {
    exceptional_entry(shared, at, action, details, None)
}

pub(super) fn exceptional_entry(
    shared: &Shared,
    at: Timestamp,
    action: &str,
    details: serde_json::Value,
    exception: Option<(ExceptionCause, String)>,
) -> LogEntry {
    let id = ActId::from_uuid(shared.env.draw_uuid());
    LogEntry::of_act(Act {
        exception,
        ..Act::of_engine(id, at, action, details)
    })
}

/// Raises what expires within the notice and what has expired. A finding that is open is left as it is; `sweep.rs` resolves what was given more
/// time.
pub(super) async fn look_at_expiry(shared: &Arc<Shared>) -> Result<u32, StoreError> {
    let now = record::to_micros(shared.env.now());
    let before = now.saturating_add(NOTICE).unwrap_or(Timestamp::MAX);
    let mut raised: u32 = 0;
    let mut after = None;
    loop {
        let page = shared.store.expiring_identities(before, after, BATCH).await?;
        after = page.last().copied();
        let ids: Vec<IdentityId> = page.iter().map(|(_, id)| *id).collect();
        let identities = shared.store.identities_with(&ids).await?;
        let expired = open_among(shared, findings::EXPIRED, &identities).await?;
        let expiring = open_among(shared, findings::EXPIRING, &identities).await?;
        let mut facts = Vec::new();
        for identity in identities {
            if identity.is_control {
                renew_control(shared, identity, now).await?;
                continue;
            }
            let (kind, other, said) = if identity.spec.expires <= now {
                (findings::EXPIRED, Some(findings::EXPIRING), &expired)
            } else {
                (findings::EXPIRING, None, &expiring)
            };
            if said.contains(&identity.name) {
                continue;
            }
            facts.extend(other.map(|other| findings::resolved(other, identity.name.clone(), now)));
            facts.push(findings::raised(&shared.env, now, expiry(&identity, kind)));
        }
        raised = raised.saturating_add(commit_findings(shared, facts, now).await?);
        if ids.len() < BATCH as usize || shared.is_stopping() {
            return Ok(raised);
        }
    }
}

/// Nobody has a manifest of a control identity. It lives on for as long as its system is registered, under that system's approval.
async fn renew_control(shared: &Shared, mut identity: Identity, now: Timestamp) -> Result<(), StoreError> {
    let register = shared.register.current(&*shared.store).await?;
    let system = register.system(&identity.spec.system);
    let Some(approval) = system.and_then(|(system, _)| system.approved.as_ref()) else {
        return Ok(());
    };
    let guard = Guard::IdentityAt {
        name: identity.name.clone(),
        version: identity.version,
    };
    let before = identity.spec.expires;
    identity.spec.expires = now.saturating_add(CONTROL_LIFE).unwrap_or(Timestamp::MAX);
    identity.version = identity.version.saturating_add(1);
    identity.approved = Some(approval.clone());
    let id = ActId::from_uuid(shared.env.draw_uuid());
    let details = serde_json::json!({ "expired_at": before, "expires_at": identity.spec.expires });
    let entry = LogEntry::of_act(Act {
        identity: Some(&identity.name),
        system: Some(&identity.spec.system),
        approval: Some(approval),
        ..Act::of_engine(id, now, "control_identity_renewed", details)
    });
    let commit = Commit {
        guards: vec![guard],
        facts: vec![Fact::Identity(identity)],
        log: vec![entry],
    };
    // Refused: somebody changed it meanwhile, and the next look sees it as it is then.
    shared.store.commit(commit).await.map(drop)
}

fn expiry<'a>(identity: &'a Identity, kind: &'static str) -> Wrong<'a> {
    let at = identity.spec.expires;
    let (severity, text) = if kind == findings::EXPIRED {
        let text = format!(
            "`{}` expired at {at}: run `keyfall decommission {} --reason …`, or apply a manifest with a later expiry",
            identity.name, identity.name
        );
        (Severity::High, text)
    } else {
        let text = format!(
            "`{}` expires at {at}: decide whether it is still needed and apply a later expiry, or let it be decommissioned",
            identity.name
        );
        (Severity::Low, text)
    };
    about_identity(identity, kind, severity, text)
}
