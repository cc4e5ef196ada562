//! The deep check: whether what is cached follows from what is recorded. It reads everything, and changes nothing.

use super::driver::{Driver, Reach, Select, first, only_text};
use super::sql::{Bound, Row, Statement, Value, coherence, credential, identity, ledger, log as entries, run};
use super::{DecodeEvent, LogPage, Result, RunRow};
use crate::domain::workflow::{Run, RunStatus};
use crate::evidence::merkle::{Frontier, leaf_hash};

/// Rows that are read at once.
const CHUNK: u32 = 1000;

async fn read<D: Driver, R: Send + 'static>(driver: &D, bound: Bound, map: fn(Row) -> Result<R>) -> Result<Vec<R>> {
    let bounds = vec![bound];
    driver.read(Select { bounds, map }, Reach::Range).await
}

/// The log without gaps, and the tree that its bytes make.
pub(super) async fn log<D: Driver>(driver: &D) -> Result<Vec<String>> {
    // Read first: entries that are appended while this runs lie behind it.
    let stored = first(read(driver, entries::FRONTIER.with([])?, entries::read_frontier).await?);
    let Some(stored) = stored else {
        return Ok(vec!["the log has no frontier".to_owned()]);
    };
    let mut computed = Frontier::new();
    let mut problems = Vec::new();
    while computed.size() < stored.size() {
        let limit = u32::try_from(stored.size() - computed.size())
            .unwrap_or(CHUNK)
            .min(CHUNK);
        let chunk: Vec<LogPage> = read(driver, entries::from(computed.size(), limit)?, entries::read).await?;
        let mut completed = Vec::new();
        for entry in &chunk {
            if entry.position != computed.size() {
                break;
            }
            let leaf = leaf_hash(&entry.bytes);
            if !leaf.starts_with(&entry.mark) || entry.mark.is_empty() {
                problems.push(format!(
                    "record {} of the log is not the one that got this position",
                    entry.position
                ));
            }
            computed.append(leaf, &mut completed);
        }
        for node in completed.iter().filter(|node| node.id.level >= entries::LOWEST_STORED) {
            let found = first(read(driver, entries::node(node.id.level, node.id.index)?, entries::read_hash).await?);
            if found != Some(node.hash) {
                let (level, place) = (node.id.level, node.id.index);
                problems.push(format!(
                    "the log's tree is wrong or missing at level {level}, place {place}"
                ));
            }
        }
        let complete =
            chunk.len() == limit as usize && chunk.last().is_some_and(|last| last.position + 1 == computed.size());
        if !complete {
            problems.push(format!("the log has no entry at position {}", computed.size()));
            return Ok(problems);
        }
    }
    if computed != stored {
        problems.push(format!(
            "the first {} entries of the log do not have the stored root",
            stored.size()
        ));
    }
    Ok(problems)
}

/// Every run's row against the fold of its log.
pub(super) async fn runs<D: Driver>(driver: &D, decode: DecodeEvent) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let mut after = String::new();
    loop {
        let bound = run::ALL_AFTER.with([("after", after.as_str().into()), ("limit", CHUNK.into())])?;
        let rows = read(driver, bound, run::read).await?;
        for row in &rows {
            if let Some(problem) = differs(driver, row, decode).await? {
                problems.push(format!("{}: {problem}", row.id));
            }
        }
        match rows.last() {
            Some(last) => after = last.id.to_string(),
            None => return Ok(problems),
        }
    }
}

async fn differs<D: Driver>(driver: &D, row: &RunRow, decode: DecodeEvent) -> Result<Option<String>> {
    let mut problem = against_log(driver, row, decode).await?;
    if problem.is_some() {
        // The row and the log were read one after the other: a run that went on meanwhile is read again.
        let bound = run::BY_ID.with([("id", Value::shown(&row.id))])?;
        if let Some(again) = first(read(driver, bound, run::read).await?)
            && again.next_seq != row.next_seq
        {
            problem = against_log(driver, &again, decode).await?;
        }
    }
    Ok(problem)
}

async fn against_log<D: Driver>(driver: &D, row: &RunRow, decode: DecodeEvent) -> Result<Option<String>> {
    let bytes = read(driver, entries::events(row.id)?, entries::read_bytes).await?;
    let events = match bytes
        .iter()
        .map(|bytes| decode(bytes))
        .collect::<std::result::Result<Vec<_>, _>>()
    {
        Ok(events) => events,
        Err(why) => return Ok(Some(format!("an event cannot be read: {why}"))),
    };
    let run = match Run::replay(&events) {
        Ok(run) => run,
        Err(error) => return Ok(Some(error.to_string())),
    };
    let closed = matches!(run.status(), RunStatus::Closed { .. });
    Ok(if run.next_seq() != row.next_seq {
        Some(format!(
            "its row says {} events, its log has {}",
            row.next_seq,
            run.next_seq()
        ))
    } else if run.status().name() != row.status {
        Some(format!(
            "its row says {}, its log says {}",
            row.status,
            run.status().name()
        ))
    } else if closed != row.closed_at.is_some() {
        Some("its row and its log differ in whether it is closed".to_owned())
    } else {
        None
    })
}

/// References between tables, and the counters.
pub(super) async fn register<D: Driver>(driver: &D) -> Result<Vec<String>> {
    let questions: [(&Statement, &str); 5] = [
        (&coherence::SECRET_OF_NO_ONE, "is a secret that no credential names"),
        (&coherence::SECRET_MISSING, "names a secret that is not there"),
        (
            &coherence::CREDENTIAL_OF_NO_ONE,
            "is a credential of an identity that is not there",
        ),
        (&coherence::RUN_NOT_MARKED, "is open, and its identity does not say so"),
        (&coherence::MARKED_RUN_NOT_OPEN, "names an open run that is not open"),
    ];
    let mut problems = Vec::new();
    for (question, what) in questions {
        let ids = read(driver, question.with([])?, only_text).await?;
        problems.extend(ids.iter().map(|id| format!("{id} {what}")));
    }
    for (subject, statement) in [
        (identity::SUBJECT, &coherence::COUNTED_IDENTITIES),
        (credential::SUBJECT, &coherence::COUNTED_CREDENTIALS),
    ] {
        let kept = read(driver, ledger::counted(subject)?, ledger::read_count).await?;
        let counted = read(driver, statement.with([])?, ledger::read_count).await?;
        if kept != counted {
            problems.push(format!(
                "the counters of {subject} say {kept:?}, and there are {counted:?}"
            ));
        }
    }
    Ok(problems)
}
