//! Findings on their way into the store, each with a record that names it. Every node makes the same passes over the same register, so what one
//! of them has said already is left out here, and of two who say it at one instant one is refused: a finding is told once, and ends once.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use super::Shared;
use super::findings::{self, Wrong};
use super::housekeeping::{act_entry, exceptional_entry};
use crate::domain::identity::Identity;
use crate::evidence::record::ExceptionCause;
use crate::store::{Commit, Committed, Fact, FindingFilter, FindingRow, Guard, LogEntry, Page, StoreError};

/// Each refusal is another node's progress, so this is reached by none that works.
const TRIES: u32 = 16;

/// The names of those identities about whom a finding of this kind is open.
pub(super) async fn open_among(
    shared: &Shared,
    kind: &str,
    identities: &[Identity],
) -> Result<HashSet<String>, StoreError> {
    let names: Vec<&str> = identities.iter().map(|identity| identity.name.as_str()).collect();
    shared.store.open_among(kind, &names).await
}

pub(super) async fn is_open(shared: &Shared, kind: &str, subject: &str) -> Result<bool, StoreError> {
    Ok(!shared.store.open_among(kind, &[subject]).await?.is_empty())
}

/// Stores one finding with its record, unless it is open already: what is asked again and again fills no log.
pub(super) async fn raise_once(shared: &Shared, wrong: Wrong<'_>, at: Timestamp) -> Result<(), StoreError> {
    let fact = findings::raised(&shared.env, at, wrong);
    commit_findings(shared, vec![fact], at).await.map(drop)
}

/// Stores findings, raised and resolved, with records that name them. Those that are open, or resolved, already are left out. Answers how many
/// were raised.
pub(super) async fn commit_findings(shared: &Shared, facts: Vec<Fact>, at: Timestamp) -> Result<u32, StoreError> {
    let telling = Telling {
        cause: None,
        anew: false,
    };
    telling.tell(shared, facts, at).await
}

/// The same, for findings that are exceptions from the way things are meant to go.
pub(super) async fn commit_exceptions(
    shared: &Shared,
    facts: Vec<Fact>,
    at: Timestamp,
    cause: ExceptionCause,
) -> Result<u32, StoreError> {
    let telling = Telling {
        cause: Some(cause),
        anew: false,
    };
    telling.tell(shared, facts, at).await
}

/// The same, where an open finding that says something else is told anew.
pub(super) async fn commit_news(
    shared: &Shared,
    facts: Vec<Fact>,
    at: Timestamp,
    cause: Option<ExceptionCause>,
) -> Result<u32, StoreError> {
    Telling { cause, anew: true }.tell(shared, facts, at).await
}

struct Telling {
    cause: Option<ExceptionCause>,
    /// Another text is news.
    anew: bool,
}

impl Telling {
    async fn tell(&self, shared: &Shared, mut facts: Vec<Fact>, at: Timestamp) -> Result<u32, StoreError> {
        for _ in 0..TRIES {
            facts = self.news(shared, facts).await?;
            let log = self.records(shared, &facts, at);
            if log.is_empty() {
                return Ok(0);
            }
            let raised = facts.iter().filter(|fact| matches!(fact, Fact::Finding(_))).count();
            let commit = Commit {
                guards: facts.iter().filter_map(|fact| self.guard(fact)).collect(),
                facts: facts.clone(),
                log,
            };
            if shared.store.commit(commit).await? == Committed::Stored {
                return Ok(u32::try_from(raised).unwrap_or(u32::MAX));
            }
        }
        Err(StoreError::Conflict {
            what: "findings that others raise and resolve all the time".to_owned(),
        })
    }

    fn guard(&self, fact: &Fact) -> Option<Guard> {
        match fact {
            Fact::Finding(row) => Some(Guard::FindingIsNews {
                kind: row.kind.clone(),
                subject: row.subject.clone(),
                saying: self.anew.then(|| row.text.clone()),
            }),
            Fact::FindingResolved { kind, subject, .. } => Some(Guard::FindingIsOpen {
                kind: (*kind).to_owned(),
                subject: subject.clone(),
            }),
            _ => None,
        }
    }

    /// Without what was said before. What goes with a finding, and is none, goes where it was said.
    async fn news(&self, shared: &Shared, facts: Vec<Fact>) -> Result<Vec<Fact>, StoreError> {
        let mut subjects: HashMap<&str, Vec<&str>> = HashMap::new();
        for (kind, subject) in facts.iter().filter_map(about) {
            subjects.entry(kind).or_default().push(subject);
        }
        let mut open: HashSet<(String, String)> = HashSet::new();
        for (kind, subjects) in subjects {
            let found = shared.store.open_among(kind, &subjects).await?;
            open.extend(found.into_iter().map(|subject| (kind.to_owned(), subject)));
        }
        let mut news = Vec::with_capacity(facts.len());
        let mut is_said = false;
        for fact in facts {
            let key = about(&fact).map(|(kind, subject)| (kind.to_owned(), subject.to_owned()));
            let is_open = key.is_some_and(|key| open.contains(&key));
            is_said = match &fact {
                Fact::Finding(row) if is_open => !self.anew || says(shared, row).await?,
                Fact::Finding(_) => false,
                Fact::FindingResolved { .. } => !is_open,
                _ => is_said,
            };
            if !is_said {
                news.push(fact);
            }
        }
        Ok(news)
    }

    fn records(&self, shared: &Shared, facts: &[Fact], at: Timestamp) -> Vec<LogEntry> {
        let mut raised = Vec::new();
        let mut texts: Vec<&str> = Vec::new();
        let mut resolved = Vec::new();
        for fact in facts {
            match fact {
                Fact::Finding(row) => {
                    raised.push(serde_json::json!({ "kind": row.kind, "subject": row.subject }));
                    texts.push(row.text.as_str());
                }
                Fact::FindingResolved { kind, subject, .. } => {
                    resolved.push(serde_json::json!({ "kind": kind, "subject": subject }));
                }
                _ => {}
            }
        }
        let mut log = Vec::new();
        if !raised.is_empty() {
            let details = serde_json::json!({ "findings": raised });
            let exception = self.cause.map(|cause| (cause, shortened(&texts)));
            log.push(exceptional_entry(shared, at, "findings_raised", details, exception));
        }
        if !resolved.is_empty() {
            let details = serde_json::json!({ "findings": resolved });
            log.push(act_entry(shared, at, "findings_resolved", details));
        }
        log
    }
}

/// Kind and subject of a finding that is raised or resolved.
fn about(fact: &Fact) -> Option<(&str, &str)> {
    match fact {
        Fact::Finding(row) => Some((&row.kind, &row.subject)),
        Fact::FindingResolved { kind, subject, .. } => Some((kind, subject)),
        _ => None,
    }
}

/// Whether the open finding says just this.
async fn says(shared: &Shared, wanted: &FindingRow) -> Result<bool, StoreError> {
    let filter = FindingFilter {
        kind: Some(wanted.kind.clone()),
        subject: Some(wanted.subject.clone()),
        open_only: true,
    };
    let open = shared.store.findings(&filter, Page::first(1)).await?;
    Ok(open.iter().any(|row| row.text == wanted.text))
}

/// The first finding in words; the record's details name all of them.
fn shortened(texts: &[&str]) -> String {
    match texts {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first, others @ ..] => format!("{first}; and {} more", others.len()),
    }
}
