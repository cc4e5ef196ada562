//! At each start the log is read again, every record against the tree that was built when it was written. A store in which one record is
//! another than it was comes to a standstill, as one that was put back does: what its runs did cannot be known from it.

use std::sync::Arc;

use anyhow::Context as _;
use keyfall::clock::Environment;
use keyfall::engine::standstill::{Cause, STANDSTILL, StandstillError, stand_still};
use keyfall::evidence::merkle::{Frontier, leaf_hash};
use keyfall::store::{LogState, Store};
use serde_json::json;

/// A log of this size is read before anything else begins, a larger one beside the work: a start takes less than a second either way.
const AT_ONCE: u64 = 100_000;
const PAGE: u32 = 1_000;
/// Beside the work, a run may move on while its standstill is being written.
const TRIES: u32 = 5;

/// Reads the log as it is now.
pub(super) async fn reread(store: &Arc<dyn Store>, env: &Environment) -> anyhow::Result<()> {
    let state = store.log_state().await?;
    if state.size <= AT_ONCE {
        return judge(&**store, env, &state).await;
    }
    let (store, env) = (Arc::clone(store), env.clone());
    tokio::spawn(async move {
        if let Err(error) = judge(&*store, &env, &state).await {
            tracing::error!(error = format!("{error:#}"), "the log could not be read again");
        }
    });
    Ok(())
}

async fn judge(store: &dyn Store, env: &Environment, state: &LogState) -> anyhow::Result<()> {
    let Some(wrong) = first_wrong(store, state).await? else {
        return Ok(());
    };
    let reason = format!(
        "{wrong}; restore a backup with `keyfall restore BACKUP`, and keep this store for whoever finds out what happened to it"
    );
    tracing::error!(
        reason,
        "the log was changed; nothing is changed in any system until a person lifts the standstill"
    );
    for _ in 0..TRIES {
        if store.setting(STANDSTILL).await?.is_some() {
            return Ok(());
        }
        let cause = Cause {
            reason: reason.clone(),
            action: "frozen",
            trigger: "start",
            details: json!({ "log_size": state.size }),
        };
        match stand_still(store, env, cause).await {
            Err(StandstillError::Store(_) | StandstillError::Moved) => {}
            ended => return ended.context("the standstill could not be stored"),
        }
    }
    anyhow::bail!("the standstill could not be stored: {reason}")
}

/// The first record that is not what it was, for people.
async fn first_wrong(store: &dyn Store, state: &LogState) -> anyhow::Result<Option<String>> {
    let mut frontier = Frontier::new();
    let mut completed = Vec::new();
    while frontier.size() < state.size {
        let page = store.log(frontier.size(), PAGE).await?;
        if page.first().is_none_or(|entry| entry.position != frontier.size()) {
            return Ok(Some(format!("record {} of the log is missing", frontier.size())));
        }
        for entry in page {
            let position = frontier.size();
            // A gap inside of a page is met at the beginning of the next one.
            if position == state.size || entry.position != position {
                break;
            }
            let leaf = leaf_hash(&entry.bytes);
            if entry.mark.is_empty() || !leaf.starts_with(&entry.mark) {
                return Ok(Some(format!(
                    "record {position} of the log was changed after it was written"
                )));
            }
            frontier.append(leaf, &mut completed);
            completed.clear();
        }
    }
    let differs = frontier.root() != state.root;
    Ok(differs.then(|| {
        format!(
            "some of the first {} records of the log were changed after they were written",
            state.size
        )
    }))
}
