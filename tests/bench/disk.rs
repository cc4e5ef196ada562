//! What the disk itself can do, measured in the folder of the store: the yardstick beside every figure.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rusqlite::Connection;

/// A shared disk is never as fast as it was a minute ago, so it is asked for longer than a moment.
const FOR: Duration = Duration::from_millis(1_000);

/// Per second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Disk {
    /// `fdatasync` of one overwritten page.
    pub(crate) fdatasync: f64,
    /// Commits of one row, SQLite in WAL with `synchronous=FULL`.
    pub(crate) full_commit: f64,
}

pub(crate) fn measure(folder: &Path) -> Result<Disk> {
    let folder = tempfile::tempdir_in(folder)?;
    Ok(Disk {
        fdatasync: fdatasync(folder.path())?,
        full_commit: full_commit(folder.path())?,
    })
}

impl std::fmt::Display for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        write!(
            f,
            "fdatasync_s={:.0} full_commit_s={:.0} load={}",
            self.fdatasync,
            self.full_commit,
            load.split(' ').next().unwrap_or_default()
        )
    }
}

/// The better of both readings, key by key: what the disk could do while the figure between them was taken.
pub(crate) fn better(before: Disk, after: Disk) -> Disk {
    Disk {
        fdatasync: before.fdatasync.max(after.fdatasync),
        full_commit: before.full_commit.max(after.full_commit),
    }
}

fn fdatasync(folder: &Path) -> Result<f64> {
    let file = File::create(folder.join("page")).context("a file to synchronise")?;
    let page = [7_u8; 4096];
    file.write_all_at(&page, 0)?;
    file.sync_all()?;
    per_second(|| {
        file.write_all_at(&page, 0)?;
        file.sync_data()?;
        Ok(())
    })
}

fn full_commit(folder: &Path) -> Result<f64> {
    let connection = Connection::open(folder.join("rows.db"))?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.execute_batch("create table rows (id integer primary key, text text not null) strict")?;
    let mut insert = connection.prepare("insert into rows (text) values (?1)")?;
    let text = "x".repeat(200);
    per_second(|| {
        insert.execute([&text])?;
        Ok(())
    })
}

fn per_second(mut once: impl FnMut() -> Result<()>) -> Result<f64> {
    let began = Instant::now();
    let mut count = 0.0;
    while began.elapsed() < FOR {
        once()?;
        count += 1.0;
    }
    Ok(count / began.elapsed().as_secs_f64())
}
