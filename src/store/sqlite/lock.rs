//! The lock beside the file: one server per store. The operating system gives it up when its holder dies, however it dies.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::super::{Result, StoreError};

/// Held as long as it lives.
pub(super) struct Lock(#[expect(dead_code, reason = "the lock lives as long as the open file")] File);

/// The one path of the store: the lock goes by name, so two names of one file would be two locks.
///
/// # Errors
/// The file has a second name (SQLite would keep two logs of it), the name leads nowhere, or it cannot be followed.
pub(super) fn only_path(store: &Path) -> Result<PathBuf> {
    let cannot = |why: &str| StoreError::Open {
        why: format!("{}: {why}", store.display()),
    };
    match fs::symlink_metadata(store) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = match store.parent() {
                Some(folder) if !folder.as_os_str().is_empty() => folder,
                _ => Path::new("."),
            };
            let folder = fs::canonicalize(folder).map_err(|error| cannot(&error.to_string()))?;
            let name = store.file_name().ok_or_else(|| cannot("this names no file"))?;
            Ok(folder.join(name))
        }
        Err(error) => Err(cannot(&error.to_string())),
        Ok(_) => {
            let path = fs::canonicalize(store).map_err(|error| cannot(&error.to_string()))?;
            let links = fs::metadata(&path).map_err(|error| cannot(&error.to_string()))?.nlink();
            if links > 1 {
                return Err(cannot(
                    "the file has a second name (a hard link), under which another server could write to it: remove that name, or copy the file with `keyfall backup NAME`",
                ));
            }
            Ok(path)
        }
    }
}

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
