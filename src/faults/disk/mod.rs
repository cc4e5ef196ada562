//! Power loss and a disk that fails, under the store on SQLite: see the README of this folder. It knows the store's files as bytes and calls, and
//! nothing of what is in them.

mod chance;
mod cut;
mod failing;
mod full;
mod power;
mod recorder;
mod reopen;
mod rotation;

use std::path::Path;

use tempfile::TempDir;

/// The share of the cases that this run takes.
#[derive(Debug, Clone, Copy)]
struct Slice {
    number: usize,
    of: usize,
}

impl Slice {
    /// From `KEYFALL_DISK_SLICE=I/N`; one of `of` where it is not set.
    fn from_environment(of: usize) -> Self {
        let Ok(text) = std::env::var("KEYFALL_DISK_SLICE") else {
            return Self { number: 0, of };
        };
        let parsed = text
            .split_once('/')
            .and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        let (number, of) = parsed.unwrap_or_else(|| panic!("KEYFALL_DISK_SLICE={text} is not I/N"));
        Self { number, of }
    }

    fn has(self, case: usize) -> bool {
        case % self.of == self.number % self.of
    }
}

/// In memory where the machine has such a place: what is durable is decided here and not by a device.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    match tempfile::tempdir_in(memory) {
        Ok(folder) => folder,
        Err(_) => tempfile::tempdir().unwrap(),
    }
}
