//! What must hold of a store that is opened from what a disk has left.

use std::path::Path;

use super::recorder::Told;
use super::rotation::{Recording, options};
use crate::clock::Environment;
use crate::store::{LogPage, Store, open_sqlite};

/// What somebody relies on, as a length: so much of the log must be there.
pub(super) fn owed(recording: &Recording, told: &Told) -> usize {
    let places: Vec<usize> = match told {
        Told::Answered(entries) => entries
            .iter()
            .map(|bytes| place(recording, |page| page.bytes == *bytes))
            .collect(),
        Told::Sent { run, seq } => vec![place(recording, |page| page.run == Some((*run, *seq)))],
    };
    places.into_iter().map(|place| place + 1).max().unwrap_or(0)
}

fn place(recording: &Recording, is_it: impl FnMut(&LogPage) -> bool) -> usize {
    recording
        .log
        .iter()
        .position(is_it)
        .expect("what was told is in the log")
}

/// Opens the store that is in this folder.
///
/// # Errors
/// What does not hold of it.
pub(super) async fn holds(folder: &Path, log: &[LogPage], owed: usize) -> Result<(), String> {
    let environment = Environment::of_this_machine();
    let store = open_sqlite(&folder.join("keyfall.db"), options(), environment).await;
    let store = store.map_err(|error| error.to_string())?;
    let holds = inspect(&*store, log, owed).await;
    store.close().await.map_err(|error| error.to_string())?;
    holds
}

async fn inspect(store: &dyn Store, log: &[LogPage], owed: usize) -> Result<(), String> {
    let problems = store.check().await.map_err(|error| error.to_string())?;
    if !problems.is_empty() {
        return Err(problems.join("; "));
    }
    let found = store.log(0, 1000).await.map_err(|error| error.to_string())?;
    let state = store.log_state().await.map_err(|error| error.to_string())?;
    if state.size as usize != found.len() || found[..] != log[..found.len().min(log.len())] {
        return Err(format!(
            "its {} records are not the first ones that were written",
            found.len()
        ));
    }
    if found.len() < owed {
        let lost = found.len();
        return Err(format!("{owed} records were relied on, and {lost} are there"));
    }
    Ok(())
}
