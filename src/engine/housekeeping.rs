//! What is done now and then beside the runs: dead secrets are destroyed on record when their deadline has passed (P8), and identities that
//! expire, or have expired, become findings while there is time to act.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::findings::{self, Severity, Wrong, about_identity};
use super::{Shared, measure, record};
use crate::domain::actor::Actor;
use crate::domain::audit::{Act, encode_act};
use crate::domain::ids::{IdentityId, SecretId};
use crate::store::{Commit, Fact, FindingFilter, LogEntry, Page, StoreError};

const BATCH: u32 = 200;
/// How long before its expiry an identity is spoken about.
const NOTICE: SignedDuration = SignedDuration::from_hours(30 * 24);

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
        shared.store.commit(destruction(shared, &due, now).await?).await?;
        destroyed = destroyed.saturating_add(count);
        if count < BATCH || shared.is_stopping() {
            break;
        }
    }
    if destroyed > 0 {
        shared.store.scrub().await?;
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
    Ok(Commit {
        guards: Vec::new(),
        facts: secrets.iter().map(|id| Fact::SecretDestroyed { id: *id, at }).collect(),
        log: vec![act_entry(shared, at, "secrets_destroyed", details)],
    })
}

/// An act of the engine itself, as a log entry.
pub(super) fn act_entry(shared: &Shared, at: Timestamp, action: &str, details: serde_json::Value) -> LogEntry {
    let bytes = encode_act(Act {
        id: format!("act_{}", shared.env.draw_uuid().simple()),
        at,
        action,
        by: &Actor::Engine,
        trigger: "schedule",
        identity: None,
        system: None,
        approval: None,
        exception: None,
        outcome: "done",
        details,
    });
    LogEntry { run: None, at, bytes }
}

/// Raises what expires within the notice and what has expired, and resolves what was given more time. A finding that is open is left as it is.
pub(super) async fn look_at_expiry(shared: &Arc<Shared>) -> Result<u32, StoreError> {
    let now = record::to_micros(shared.env.now());
    let before = now.saturating_add(NOTICE).unwrap_or(Timestamp::MAX);
    let mut raised: u32 = 0;
    let mut after = None;
    loop {
        let page = shared.store.expiring_identities(before, after, BATCH).await?;
        after = page.last().copied();
        let ids: Vec<IdentityId> = page.iter().map(|(_, id)| *id).collect();
        let mut facts = Vec::new();
        for identity in shared.store.identities_with(&ids).await? {
            if identity.is_control {
                continue;
            }
            let (kind, other) = if identity.spec.expires <= now {
                (findings::EXPIRED, Some(findings::EXPIRING))
            } else {
                (findings::EXPIRING, None)
            };
            if is_open(shared, kind, &identity.name).await? {
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

fn expiry<'a>(identity: &'a crate::domain::identity::Identity, kind: &'static str) -> Wrong<'a> {
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

async fn is_open(shared: &Shared, kind: &str, subject: &str) -> Result<bool, StoreError> {
    let filter = FindingFilter {
        kind: Some(kind.to_owned()),
        subject: Some(subject.to_owned()),
        open_only: true,
    };
    Ok(!shared.store.findings(&filter, Page::first(1)).await?.is_empty())
}

/// Stores findings with one record that names them. Answers how many there were.
pub(super) async fn commit_findings(shared: &Shared, facts: Vec<Fact>, at: Timestamp) -> Result<u32, StoreError> {
    let named: Vec<_> = facts
        .iter()
        .filter_map(|fact| match fact {
            Fact::Finding(row) => Some(serde_json::json!({ "kind": row.kind, "subject": row.subject })),
            _ => None,
        })
        .collect();
    if facts.is_empty() {
        return Ok(0);
    }
    let count = u32::try_from(named.len()).unwrap_or(u32::MAX);
    let log = vec![act_entry(
        shared,
        at,
        "findings_raised",
        serde_json::json!({ "findings": named }),
    )];
    let commit = Commit {
        guards: Vec::new(),
        facts,
        log,
    };
    shared.store.commit(commit).await?;
    Ok(count)
}
