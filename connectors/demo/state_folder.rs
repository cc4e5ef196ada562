//! The provider's truth in a folder, so that a killed process meets the same downstream after it restarts, and several
//! processes meet one downstream at once. One file holds all namesakes of one account, is read anew before each use and
//! replaced as a whole before a change is answered; whoever uses it holds the lock of its stripe. It outlives a killed
//! process, not a power cut. It holds no secret, only hashes. Nothing here knows what a call does.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use keyfall_sdk::{ConnectorError, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use super::account::Account;
use super::provider::{Provider, held};

/// All accounts of one name, as a file holds them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    version: u32,
    /// The clock of the process that wrote the file: whoever reads it is at least as late.
    clock: u64,
    name: String,
    /// The deleted ones before the one that may be alive.
    accounts: Vec<Account>,
}

#[derive(Serialize)]
struct Saving<'a> {
    version: u32,
    clock: u64,
    name: &'a str,
    accounts: &'a [Account],
}

const VERSION: u32 = 2;

/// Numbers that one process may give before they could meet those of the next one.
const NUMBERS_OF_AN_OPENING: u64 = 1_000_000_000;

/// Between two tries of a lock that another process holds. It is held for microseconds, unless its holder was stopped.
const LOCK_PAUSE: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// True once this process has made sure of the folder and drawn its numbers.
    is_open: Mutex<bool>,
}

/// One account of a folder for one use: until it is dropped, no other process and no other thread reads or changes it.
pub(super) struct Turn {
    file: PathBuf,
    _lock: File,
}

impl Provider {
    /// Keeps the truth in this folder from the first call on. A provider has one folder for its life; another one is
    /// refused.
    pub(super) fn keep_in(&self, path: PathBuf) -> Result<()> {
        let folder = self.folder.get_or_init(|| Folder {
            path: path.clone(),
            is_open: Mutex::default(),
        });
        if folder.path == path {
            return Ok(());
        }
        Err(ConnectorError::conflict(format!(
            "demo provider {} keeps its state in {}, not in {}; give the second system another options.provider",
            self.name,
            folder.path.display(),
            path.display()
        )))
    }

    /// The turn of one account, which is then known as the folder has it. `None` in memory, where there is nothing to
    /// wait for. An empty name means all accounts: each is read in its turn, and none is held afterwards.
    pub(super) async fn turn(&self, name: &str) -> Result<Option<Turn>> {
        let Some(folder) = self.open_folder()? else {
            return Ok(None);
        };
        if !name.is_empty() {
            return self.turn_at(folder, stem_of(name)).await.map(Some);
        }
        for stem in folder.stems()? {
            self.turn_at(folder, stem).await?;
        }
        Ok(None)
    }

    /// As [`Provider::turn`], for who looks at the truth without a call: it blocks its thread.
    pub(super) fn blocking_turn(&self, name: &str) -> Result<Option<Turn>> {
        let Some(folder) = self.open_folder()? else {
            return Ok(None);
        };
        let all = name.is_empty();
        let stems = if all { folder.stems()? } else { vec![stem_of(name)] };
        let mut turn = None;
        for stem in stems {
            let lock = folder.lock_of(&stem)?;
            lock.lock().map_err(|error| unusable(&folder.path, &error))?;
            turn = Some(self.take_turn(folder, &stem, lock)?);
        }
        Ok(turn.filter(|_| !all))
    }

    /// A process may be stopped while it holds the lock: nobody's thread stands still with it.
    async fn turn_at(&self, folder: &Folder, stem: String) -> Result<Turn> {
        let lock = folder.lock_of(&stem)?;
        loop {
            match lock.try_lock() {
                Ok(()) => return self.take_turn(folder, &stem, lock),
                Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_PAUSE).await,
                Err(TryLockError::Error(error)) => return Err(unusable(&folder.path, &error)),
            }
        }
    }

    /// Writes the account whose turn it is as it is known here. On an error nothing was changed: the next turn reads the
    /// file again.
    pub(super) fn keep(&self, turn: &Turn, name: &str) -> Result<()> {
        let shard = self.shard(name);
        let Some(accounts) = shard.get(name) else {
            return Ok(());
        };
        let text = serde_json::to_vec(&Saving {
            version: VERSION,
            clock: self.now(),
            name,
            accounts,
        });
        drop(shard);
        let written = text
            .map_err(io::Error::other)
            .and_then(|text| replace(&turn.file, &text));
        written.map_err(|error| {
            ConnectorError::transient(format!(
                "nothing was changed: {} was not written: {error}; free the disk and retry",
                turn.file.display()
            ))
        })
    }

    fn take_turn(&self, folder: &Folder, stem: &str, lock: File) -> Result<Turn> {
        let file = folder.accounts().join(format!("{stem}.json"));
        match fs::read(&file) {
            Ok(text) => self.learn(&file, &text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unusable(&file, &error)),
        }
        Ok(Turn { file, _lock: lock })
    }

    fn learn(&self, file: &Path, text: &[u8]) -> Result<()> {
        let saved: Saved = serde_json::from_slice(text).map_err(|error| unusable(file, &error))?;
        if saved.version != VERSION {
            let why = format!("it is of version {}, not {VERSION}", saved.version);
            return Err(unusable(file, &why));
        }
        let behind = saved.clock.saturating_sub(self.now());
        if behind > 0 {
            self.offset.fetch_add(behind, Ordering::Relaxed);
        }
        self.shard(&saved.name).insert(saved.name, saved.accounts);
        Ok(())
    }

    /// The folder, made and entered at first use. `None` in memory.
    fn open_folder(&self) -> Result<Option<&Folder>> {
        let Some(folder) = self.folder.get() else {
            return Ok(None);
        };
        let mut is_open = held(&folder.is_open);
        if !*is_open {
            let opening = folder.enter().map_err(|error| unusable(&folder.path, &error))?;
            let first = opening.saturating_mul(NUMBERS_OF_AN_OPENING).saturating_add(1);
            self.next_id.fetch_max(first, Ordering::Relaxed);
            let uptime = uptime_micros().map_err(|error| unusable(&folder.path, &error))?;
            self.offset.fetch_add(uptime, Ordering::Relaxed);
            *is_open = true;
        }
        Ok(Some(folder))
    }
}

impl Folder {
    fn accounts(&self) -> PathBuf {
        self.path.join("accounts")
    }

    /// Of the files that are there, sorted.
    fn stems(&self) -> Result<Vec<String>> {
        let accounts = self.accounts();
        let entries = fs::read_dir(&accounts).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let entries = entries.map_err(|error| unusable(&accounts, &error))?;
        let names = entries
            .iter()
            .map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut stems: Vec<String> = names
            .filter_map(|name| name.strip_suffix(".json").map(str::to_owned))
            .collect();
        stems.sort();
        Ok(stems)
    }

    /// One lock for each first byte of the files' names: the locks are never removed, so there must not be thousands.
    fn lock_of(&self, stem: &str) -> Result<File> {
        let path = self.path.join("locks").join(stem.get(..2).unwrap_or("00"));
        open_lock(&path).map_err(|error| unusable(&path, &error))
    }

    /// Makes what is missing and counts the openings, whose number tells the processes' ids apart.
    fn enter(&self) -> io::Result<u64> {
        for folder in [self.path.clone(), self.accounts(), self.path.join("locks")] {
            match DirBuilder::new().mode(0o700).create(&folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        let lock = open_lock(&self.path.join("locks").join("opening"))?;
        lock.lock()?;
        let counter = self.path.join("openings");
        let before = match fs::read_to_string(&counter) {
            Ok(text) => text.trim().parse().map_err(io::Error::other)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        replace(&counter, format!("{}\n", before + 1).as_bytes())?;
        Ok(before)
    }
}

/// The file name of an account, whose own name may hold anything.
fn stem_of(name: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, name.as_bytes());
    digest
        .as_ref()
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("writing");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(text)?;
    fs::rename(&beside, path)
}

/// What all processes of a machine count alike, to a hundredth of a second; the rest is made up by what they read of each other.
fn uptime_micros() -> io::Result<u64> {
    let mut text = String::new();
    File::open("/proc/uptime")?.read_to_string(&mut text)?;
    let seconds = text.split_whitespace().next().unwrap_or_default();
    let (whole, hundredths) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let number = |text: &str| text.parse::<u64>().map_err(io::Error::other);
    Ok(number(whole)? * 1_000_000 + number(hundredths)? * 10_000)
}

fn unusable(path: &Path, why: &dyn std::fmt::Display) -> ConnectorError {
    ConnectorError::new(
        ErrorKind::Denied,
        format!(
            "the demo provider's state in {} cannot be used: {why}; restore it, or move it away to begin empty",
            path.display()
        ),
    )
}
