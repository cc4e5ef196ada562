//! Brings a database to the schema of this binary. Whoever calls it holds the lock that keeps a second server away.

use rusqlite::Connection;

use super::super::{Result, StoreError};

mod embedded {
    refinery::embed_migrations!("migrations/sqlite");
}

const HISTORY: &str = "select count(*) from sqlite_schema where type = 'table' and name = 'refinery_schema_history'";

/// Applies what is missing in one transaction, with the rows that say so: whatever ends it in the middle, it can be begun again.
///
/// # Errors
/// The store was written by a newer Keyfall, or holds a migration with other bytes than ours.
pub(super) fn migrate(connection: &mut Connection) -> Result<()> {
    // Ungrouped, a migration and the row about it would be two transactions, and a crash between them would shut the store for good.
    let runner = embedded::migrations::runner().set_grouped(true);
    let newest = runner.get_migrations().iter().map(refinery::Migration::version).max();
    if let Some(applied) = applied(connection)?.filter(|applied| Some(*applied) > newest.map(i64::from)) {
        let why = format!(
            "its schema has version {applied}, and this keyfall knows versions up to {}: it was written by a newer keyfall, use that one",
            newest.unwrap_or(0)
        );
        return Err(StoreError::Open { why });
    }
    runner.run(connection).map(drop).map_err(|error| StoreError::Open {
        why: format!("its schema could not be brought up to date: {error}"),
    })
}

/// The number of the last migration that the database has seen.
fn applied(connection: &Connection) -> Result<Option<i64>> {
    let failed = |source: rusqlite::Error| super::fault::classify("reading the schema's version", &source);
    let has_history: bool = connection.query_row(HISTORY, [], |row| row.get(0)).map_err(failed)?;
    if !has_history {
        return Ok(None);
    }
    connection
        .query_row("select max(version) from refinery_schema_history", [], |row| row.get(0))
        .map_err(failed)
}
