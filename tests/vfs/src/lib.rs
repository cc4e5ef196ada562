//! The file system under SQLite, watched and broken by a test. It wraps the functions of SQLite's own Unix file system and must not know what
//! the files hold.
//!
//! | file       | what                                                                                       |
//! |------------|--------------------------------------------------------------------------------------------|
//! | `lib.rs`   | what a test sees: folders under watch, calls, failures                                     |
//! | `table.rs` | the C side: the functions that SQLite calls, and how they reach the ones underneath         |

mod table;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once, PoisonError};

/// What SQLite is about to do with a file. `file` is its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call<'a> {
    /// The file may be there already.
    Open {
        file: &'a str,
    },
    Read {
        file: &'a str,
    },
    Write {
        file: &'a str,
        at: u64,
        bytes: &'a [u8],
    },
    Truncate {
        file: &'a str,
        size: u64,
    },
    Sync {
        file: &'a str,
    },
    /// `durable`: the folder is synchronised as well.
    Delete {
        file: &'a str,
        durable: bool,
    },
}

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// There is no room: so many bytes of a write are written all the same.
    Full { after: usize },
    /// The device answers with an error: so many bytes of a write are written all the same.
    Broken { after: usize },
}

/// Is asked before each call on a file of its folder, one call after the other.
pub trait Watcher: Send + Sync {
    /// # Errors
    /// The call fails so, and SQLite is told.
    fn about_to(&self, call: Call<'_>) -> Result<(), Failure>;
}

struct Watch {
    folder: PathBuf,
    watcher: Arc<dyn Watcher>,
}

static WATCHES: Mutex<Vec<Watch>> = Mutex::new(Vec::new());
static REGISTER: Once = Once::new();

/// Ends with its value. Files that are open then stay under watch until they are closed.
#[must_use]
pub struct Watched {
    folder: PathBuf,
}

/// Watches every file that SQLite opens in this folder from here on. The folder's path has no symbolic links in it.
pub fn watch(folder: &Path, watcher: Arc<dyn Watcher>) -> Watched {
    REGISTER.call_once(table::register);
    let folder = folder.to_owned();
    let mut watches = WATCHES.lock().unwrap_or_else(PoisonError::into_inner);
    watches.push(Watch {
        folder: folder.clone(),
        watcher,
    });
    Watched { folder }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut watches = WATCHES.lock().unwrap_or_else(PoisonError::into_inner);
        watches.retain(|watch| watch.folder != self.folder);
    }
}

fn watcher_of(path: &str) -> Option<Arc<dyn Watcher>> {
    let watches = WATCHES.lock().unwrap_or_else(PoisonError::into_inner);
    let watch = watches.iter().find(|watch| Path::new(path).starts_with(&watch.folder));
    watch.map(|watch| Arc::clone(&watch.watcher))
}

#[cfg(test)]
mod tests;
