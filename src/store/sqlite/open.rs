//! Opens connections: refuses what must not be opened, and sets up what may.

use std::fs::{self, File};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::super::{Result, STORE_ID, StoreError};
use super::fault::classify;
use super::migrate::migrate;
use super::{Creation, StoreOptions};
use crate::clock::Environment;

/// "KFAL": what tells our files from those of other programs.
const APPLICATION_ID: i32 = 0x4B46_414C;

/// All statements of the program find room.
const STATEMENTS: usize = 256;

/// The connection that writes, on a file that is ours and has our schema.
pub(super) fn writer(path: &Path, options: &StoreOptions, environment: &Environment) -> Result<Connection> {
    refuse_library(rusqlite::version_number())?;
    let new = create(path, options.creation)?;
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    size_pages(&connection)?;
    identify(&connection, path, new)?;
    set_up_writer(&connection, options)?;
    migrate(&mut connection)?;
    give_id(&connection, environment)?;
    match_id(&connection, options)?;
    Ok(connection)
}

/// A connection that cannot write.
pub(super) fn reader(path: &Path) -> Result<Connection> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let failed = |source| classify("setting up a reader", &source);
    connection.pragma_update(None, "query_only", true).map_err(failed)?;
    connection.pragma_update(None, "cache_size", -4000).map_err(failed)?;
    Ok(connection)
}

fn connect(path: &Path, mode: OpenFlags) -> Result<Connection> {
    let flags = mode | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| StoreError::Open {
        why: format!("{}: {error}", path.display()),
    })?;
    let failed = |source| classify("setting up a connection", &source);
    connection.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    for (config, value) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_DQS_DML, false),
        (DbConfig::SQLITE_DBCONFIG_DQS_DDL, false),
        // A plan holds for all values of its parameters: statements are prepared once, and not again whenever a value changes.
        (DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true),
    ] {
        connection.set_db_config(config, value).map_err(failed)?;
    }
    // A damaged page is then noticed when it is read, not when its cells make no sense.
    connection
        .pragma_update(None, "cell_size_check", true)
        .map_err(failed)?;
    Ok(connection)
}

/// Before 3.51.3 a race at the reset of the write-ahead log could damage the file, and 3.52.0 was withdrawn.
fn refuse_library(version: i32) -> Result<()> {
    if version < 3_051_003 || version == 3_052_000 {
        return Err(StoreError::Open {
            why: format!(
                "the SQLite library has version {}, which can lose or damage data; build with the bundled one",
                rusqlite::version()
            ),
        });
    }
    Ok(())
}

/// Makes the file where that is wanted, readable by its owner only. Answers whether it is empty.
fn create(path: &Path, creation: Creation) -> Result<bool> {
    let cannot = |why: String| StoreError::Open {
        why: format!("{}: {why}", path.display()),
    };
    let exists = path.exists();
    match creation {
        Creation::Never if !exists => {
            return Err(cannot("there is no store; make one with `keyfall init DIR`".to_owned()));
        }
        Creation::Always if exists => {
            return Err(cannot("there is a file already, and it is not overwritten".to_owned()));
        }
        _ => {}
    }
    let file = File::options()
        .read(true)
        .write(true)
        .create(creation != Creation::Never)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| cannot(error.to_string()))?;
    file.set_permissions(fs::Permissions::from_mode(0o600))
        .map_err(|error| cannot(error.to_string()))?;
    let length = file.metadata().map_err(|error| cannot(error.to_string()))?.len();
    if exists && length == 0 && creation == Creation::Never {
        return Err(cannot(
            "the file is empty; restore a backup with `keyfall restore BACKUP`".to_owned(),
        ));
    }
    Ok(length == 0)
}

/// Records are long and appended in groups: pages of 8 KiB are half as many to write for the same bytes. A file keeps the size that its first
/// write gave it.
fn size_pages(connection: &Connection) -> Result<()> {
    connection
        .pragma_update(None, "page_size", 8192)
        .map_err(|source| classify("choosing the size of pages", &source))
}

/// Reads the first page, where a file says what it is.
fn identify(connection: &Connection, path: &Path, new: bool) -> Result<()> {
    let failed = |source: rusqlite::Error| match classify("reading the file's first page", &source) {
        StoreError::Damaged { what, advice } => StoreError::Damaged {
            what: format!("{}: {what}", path.display()),
            advice,
        },
        other => other,
    };
    let found: i32 = connection
        .pragma_query_value(None, "application_id", |row| row.get(0))
        .map_err(failed)?;
    let objects: i64 = connection
        .query_row("select count(*) from sqlite_schema", [], |row| row.get(0))
        .map_err(failed)?;
    if new || (found == 0 && objects == 0) {
        return connection
            .pragma_update(None, "application_id", APPLICATION_ID)
            .map_err(failed);
    }
    if found != APPLICATION_ID {
        return Err(StoreError::Open {
            why: format!("{} is another program's database", path.display()),
        });
    }
    Ok(())
}

fn set_up_writer(connection: &Connection, options: &StoreOptions) -> Result<()> {
    let failed = |source| classify("setting up the writer", &source);
    let mode: String = connection
        .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))
        .map_err(failed)?;
    if mode != "wal" {
        return Err(StoreError::Open {
            why: format!(
                "its file system has no shared memory for a write-ahead log (journal mode {mode}); use a local disk"
            ),
        });
    }
    connection.pragma_update(None, "synchronous", "full").map_err(failed)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(failed)?;
    // What is deleted or overwritten leaves no bytes behind in the file's free places.
    connection.pragma_update(None, "secure_delete", true).map_err(failed)?;
    // What a savepoint would undo is kept in memory, never in a file beside the store.
    connection.pragma_update(None, "temp_store", "memory").map_err(failed)?;
    connection.pragma_update(None, "cache_size", -16000).map_err(failed)?;
    connection
        .pragma_update(None, "wal_autocheckpoint", options.checkpoint_after)
        .map_err(failed)?;
    connection
        .pragma_update(None, "journal_size_limit", 64 << 20)
        .map_err(failed)?;
    if let Some(most) = options.most_pages {
        connection.pragma_update(None, "max_page_count", most).map_err(failed)?;
    }
    Ok(())
}

/// A new store draws the id that it keeps for ever.
pub(super) fn give_id(connection: &Connection, environment: &Environment) -> Result<()> {
    let id = environment.draw_uuid().to_string();
    let text = "insert into settings (key, value) values (?1, ?2) on conflict (key) do nothing";
    connection
        .execute(text, (STORE_ID, id))
        .map(drop)
        .map_err(|source| classify("giving the store its id", &source))
}

fn match_id(connection: &Connection, options: &StoreOptions) -> Result<()> {
    let Some(wanted) = &options.store_id else { return Ok(()) };
    let found: String = connection
        .query_row("select value from settings where key = ?1", [STORE_ID], |row| {
            row.get(0)
        })
        .map_err(|source| classify("reading the store's id", &source))?;
    if found == *wanted {
        return Ok(());
    }
    Err(StoreError::Open {
        why: format!("it is the store {found}, and {wanted} was expected; check the path, or restore the right backup"),
    })
}

#[cfg(test)]
mod tests {
    use super::refuse_library;

    #[test]
    fn libraries_that_lose_data_are_refused() {
        for bad in [3_040_001, 3_051_002, 3_052_000] {
            assert!(refuse_library(bad).is_err(), "{bad}");
        }
        for good in [3_051_003, 3_053_000, 3_054_001] {
            assert!(refuse_library(good).is_ok(), "{good}");
        }
    }
}
