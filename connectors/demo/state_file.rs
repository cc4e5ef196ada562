//! The provider's truth in a file, so that a killed process meets the same downstream after it restarts. The file is
//! replaced as a whole before the change is answered; it outlives a killed process, not a power cut. It holds no secret,
//! only hashes.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use keyfall_sdk::{ConnectorError, Result};
use serde::{Deserialize, Serialize};

use super::account::Account;
use super::provider::{Provider, held};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Saved {
    version: u32,
    /// The provider's clock when the file was written. Time in which no process ran does not pass for it.
    clock: u64,
    next_id: u64,
    accounts: Vec<Account>,
}

const VERSION: u32 = 1;

impl Provider {
    /// Keeps the truth in this file from the first call on. A provider has one file for its life; another one is refused.
    pub(super) fn keep_in(&self, path: PathBuf) -> Result<()> {
        let kept = self.state_file.get_or_init(|| path.clone());
        if *kept == path {
            return Ok(());
        }
        Err(ConnectorError::conflict(format!(
            "demo provider {} keeps its state in {}, not in {}; give the second system another options.provider",
            self.name,
            kept.display(),
            path.display()
        )))
    }

    /// Reads the file once. Without a file there is nothing to do.
    pub(super) fn load(&self) -> Result<()> {
        let Some(path) = self.state_file.get() else {
            return Ok(());
        };
        let mut loaded = held(&self.loaded);
        if *loaded {
            return Ok(());
        }
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                *loaded = true;
                return Ok(());
            }
            Err(error) => return Err(unusable(path, &error.to_string())),
        };
        let saved: Saved = serde_json::from_slice(&text).map_err(|error| unusable(path, &error.to_string()))?;
        if saved.version != VERSION {
            return Err(unusable(
                path,
                &format!("it is of version {}, not {VERSION}", saved.version),
            ));
        }
        self.offset.fetch_add(saved.clock, Ordering::Relaxed);
        self.next_id.fetch_max(saved.next_id, Ordering::Relaxed);
        for account in saved.accounts {
            let mut shard = self.shard(&account.name);
            shard.entry(account.name.clone()).or_default().push(account);
        }
        *loaded = true;
        Ok(())
    }

    /// Writes the truth as it is now. Called after every change and before its answer.
    pub(super) fn save(&self) -> Result<()> {
        let Some(path) = self.state_file.get() else {
            return Ok(());
        };
        let writing = held(&self.loaded);
        let mut accounts: Vec<Account> = Vec::new();
        for shard in self.each_shard() {
            accounts.extend(shard.values().flatten().cloned());
        }
        // Namesakes keep their order: the sort is stable.
        accounts.sort_by(|a, b| a.name.cmp(&b.name));
        let saved = Saved {
            version: VERSION,
            clock: self.now(),
            next_id: self.next_id.load(Ordering::Relaxed),
            accounts,
        };
        let outcome = serde_json::to_vec(&saved)
            .map_err(std::io::Error::other)
            .and_then(|text| replace(path, &text));
        drop(writing);
        outcome.map_err(|error| {
            ConnectorError::ambiguous(format!(
                "the change was made in memory, but {} was not written: {error}; free the disk and retry",
                path.display()
            ))
        })
    }
}

fn replace(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("writing");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(text)?;
    fs::rename(&beside, path)
}

fn unusable(path: &Path, why: &str) -> ConnectorError {
    ConnectorError::new(
        keyfall_sdk::ErrorKind::Denied,
        format!(
            "the demo provider's state file {} cannot be used: {why}; restore it, or move it away to begin empty",
            path.display()
        ),
    )
}
