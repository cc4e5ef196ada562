//! The reviewer's questions on a Monday: what has no owner, what was not rotated, what was revoked and still answers, what exists that nobody
//! registered, what waits for a person.

use std::collections::BTreeMap;

use super::register::finding_view;
use super::{App, AppError, Caller, FindingView, ReviewView, RevocationsView, Verb, allow};
use crate::domain::resource::Kind;
use crate::engine::findings::{
    ALIVE_AFTER_REVOKE, EXPIRED, EXPIRING, KINDS, NEEDS_OPERATOR, OVERDUE, UNOWNED, UNPROVABLE,
};
use crate::store::{FindingFilter, Page};

/// Of each kind, so that many of one kind push none of another off the page.
const MOST_OF_A_KIND: u32 = 1000;

impl App {
    /// # Errors
    /// When the store does not answer. A system that does not answer is named in its own line instead.
    pub async fn review(&self, caller: &Caller) -> Result<ReviewView, AppError> {
        allow(caller, Verb::Read)?;
        let now = self.env.now();
        let overview = self.store.overview(now).await?;
        let mut findings = Vec::new();
        for kind in KINDS {
            let filter = FindingFilter {
                kind: Some(kind.to_owned()),
                subject: None,
                open_only: true,
            };
            let found = self.store.findings(&filter, Page::first(MOST_OF_A_KIND)).await?;
            findings.extend(found.into_iter().map(finding_view));
        }
        let credentials: BTreeMap<_, _> = overview.credentials.into_iter().collect();
        let revocations = revocations(&credentials);
        let of = |kinds: &[&str]| subjects(&findings, kinds);
        Ok(ReviewView {
            at: now,
            identities: overview.identities.into_iter().collect(),
            credentials,
            unowned: of(&[UNOWNED]),
            overdue: of(&[OVERDUE]),
            expiring: of(&[EXPIRING, EXPIRED]),
            still_alive: of(&[ALIVE_AFTER_REVOKE]),
            unprovable: of(&[UNPROVABLE]),
            unregistered: self.unregistered().await?,
            needs_operator: of(&[NEEDS_OPERATOR]),
            revocations,
            findings,
        })
    }

    async fn unregistered(&self) -> Result<BTreeMap<String, Vec<String>>, AppError> {
        let mut all = BTreeMap::new();
        for system in self.store.resources(Kind::System).await? {
            let registered = self.accounts_registered(&system.name).await?;
            let names = match self.accounts_downstream(&system.name).await {
                Ok(found) => found
                    .into_iter()
                    .map(|state| state.name)
                    .filter(|name| !registered.contains_key(name))
                    .collect(),
                Err(error) => vec![format!("could not be read: {error}")],
            };
            all.insert(system.name, names);
        }
        Ok(all)
    }
}

fn subjects(findings: &[FindingView], kinds: &[&str]) -> Vec<String> {
    let of_kind = findings.iter().filter(|finding| kinds.contains(&finding.kind.as_str()));
    of_kind
        .map(|finding| format!("{}: {}", finding.subject, finding.text))
        .collect()
}

/// What is unknown counts as asked for and not dead.
fn revocations(credentials: &BTreeMap<String, u64>) -> RevocationsView {
    let count = |state: &str| credentials.get(state).copied().unwrap_or(0);
    let proven_dead = count("dead");
    let unknown = ["revoking", "revoked", "alive_after_revoke", "unprovable"]
        .map(count)
        .iter()
        .sum::<u64>();
    RevocationsView {
        asked: proven_dead.saturating_add(unknown),
        proven_dead,
    }
}
