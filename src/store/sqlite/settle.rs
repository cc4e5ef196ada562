//! What the last process left in the write-ahead log is made durable before anything of it is believed. When a synchronisation failed, the
//! operating system may have forgotten that there is something to write and go on showing it to whoever reads: the commits in that log are
//! there for us, and would be gone after a power cut, and a second synchronisation would say that all is well. So the log is written anew.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::super::{Result, StoreError};
use crate::owner_only::PRIVATE;

/// Whoever calls it holds the lock on the store, and nobody has it open. After an orderly end there is nothing to do.
///
/// # Errors
/// The log cannot be read, or its copy cannot be written. The log is as it was then.
pub(super) fn settle(store: &Path) -> Result<()> {
    let log = beside(store, "-wal");
    let is_there = fs::metadata(&log).is_ok_and(|found| found.len() > 0);
    if !is_there {
        return Ok(());
    }
    write_anew(&log, &beside(store, "-wal.anew")).map_err(|error| StoreError::Unwritable {
        why: format!(
            "the write-ahead log {} that the last process left cannot be written anew ({error}); as many bytes as it is long must be free",
            log.display()
        ),
    })
}

fn write_anew(log: &Path, copy: &Path) -> io::Result<()> {
    let mut from = File::open(log)?;
    let mut to = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(PRIVATE)
        .open(copy)?;
    let copied = io::copy(&mut from, &mut to).and_then(|_| to.sync_all());
    if let Err(error) = copied {
        // What was begun takes no room.
        let _ = fs::remove_file(copy);
        return Err(error);
    }
    fs::rename(copy, log)?;
    match log.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn beside(store: &Path, suffix: &str) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
