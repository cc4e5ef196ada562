//! The lock beside the file: one server per store. The operating system gives it up when its holder dies, however it dies.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::super::{Result, StoreError};

/// Held as long as it lives.
pub(super) struct Lock(#[expect(dead_code, reason = "the lock lives as long as the open file")] File);

/// # Errors
/// Another process holds it, or the file cannot be made.
pub(super) fn take(store: &Path) -> Result<Lock> {
    let path = beside(store);
    let cannot = |why: String| StoreError::Open {
        why: format!("{}: {why}", path.display()),
    };
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|error| cannot(error.to_string()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Err(held(store, &mut file)),
        Err(error) => return Err(cannot(error.to_string())),
    }
    // The pid is for people: what counts is the lock.
    let pid = format!("{}\n", std::process::id());
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(pid.as_bytes()))
        .map_err(|error| cannot(error.to_string()))?;
    Ok(Lock(file))
}

fn beside(store: &Path) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

fn held(store: &Path, file: &mut File) -> StoreError {
    let mut pid = String::new();
    let holder = match file.read_to_string(&mut pid) {
        Ok(_) if !pid.trim().is_empty() => format!("process {}", pid.trim()),
        _ => "another process".to_owned(),
    };
    StoreError::Open {
        why: format!(
            "{} is in use by {holder}; one server holds a store at a time: stop that one, or give this one a file of its own",
            store.display()
        ),
    }
}
