//! Backup, scrubbing and the check of the file's structure.

use std::fs::{self, File};
use std::path::Path;

use rusqlite::Connection;

use super::super::{Result, StoreError};
use super::fault::classify;
use super::open;
use crate::owner_only::{self, PRIVATE};

/// Problems of the structure that are told; a badly damaged file has thousands.
const MOST_PROBLEMS: u32 = 100;

/// Writes a copy as of one instant to a new file that only its owner can read.
pub(super) fn backup(from: &Path, to: &Path) -> Result<()> {
    let cannot = |why: String| StoreError::Unwritable {
        why: format!("the backup {}: {why}", to.display()),
    };
    // SQLite fills an empty file, and refuses one that is not.
    owner_only::create(to, PRIVATE).map_err(|error| cannot(error.to_string()))?;
    let written = write_copy(from, to).and_then(|()| sync(to).map_err(|error| cannot(error.to_string())));
    if written.is_err() {
        // What was begun is no backup, and must not be taken for one.
        let _ = fs::remove_file(to);
    }
    written
}

/// The file, and its name in the folder.
fn sync(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()?;
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn write_copy(from: &Path, to: &Path) -> Result<()> {
    let failed = |source| classify("writing a backup", &source);
    let target = to.to_str().ok_or_else(|| StoreError::Unwritable {
        why: format!("the path {} is not text", to.display()),
    })?;
    let connection = open::reader(from)?;
    connection.pragma_update(None, "query_only", false).map_err(failed)?;
    connection.execute("vacuum into ?1", [target]).map(drop).map_err(failed)
}

/// Figures for the planner that cost the same for any size. They are a comfort: without room for them the store works on.
fn tune(connection: &Connection) {
    let _ = connection.execute_batch("pragma analysis_limit = 400; pragma optimize;");
}

/// Moves the whole write-ahead log into the file and empties it. Deleted bytes were overwritten when they were deleted (`secure_delete`), so
/// that no copy of them is left afterwards.
pub(super) fn scrub(connection: &Connection) -> Result<()> {
    let failed = |source| classify("emptying the write-ahead log", &source);
    tune(connection);
    let busy: bool = connection
        .query_row("pragma wal_checkpoint(truncate)", [], |row| row.get(0))
        .map_err(failed)?;
    if busy {
        return Err(StoreError::Failed {
            doing: "emptying the write-ahead log",
            source: "a long reading or a backup still uses it; it is tried again until it succeeds".into(),
        });
    }
    Ok(())
}

/// What is wrong with the file's pages, indexes and references.
pub(super) fn examine(path: &Path) -> Result<Vec<String>> {
    let failed = |source| classify("checking the file", &source);
    let connection = open::reader(path)?;
    let mut problems = Vec::new();
    let mut statement = connection
        .prepare(&format!("pragma integrity_check({MOST_PROBLEMS})"))
        .map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        let problem: String = row.get(0).map_err(failed)?;
        if problem != "ok" {
            problems.push(problem);
        }
    }
    let mut statement = connection.prepare("pragma foreign_key_check").map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        let (table, wanted): (String, String) = (row.get(0).map_err(failed)?, row.get(2).map_err(failed)?);
        problems.push(format!("a row of {table} names a row of {wanted} that is not there"));
    }
    Ok(problems)
}
