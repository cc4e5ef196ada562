//! The files that a power cut may leave. What was synchronised is there. Of what a file was told since then, any part may be: in any order, and a
//! write torn at the sectors of the device.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::chance::Chance;
use super::recorder::Op;

const SECTOR: usize = 512;

/// What became of the calls that were not synchronised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Lost,
    Kept,
    /// In their order up to one of them, which is torn.
    TornAtTheEnd,
    /// Some of them.
    Some,
    /// Some of them, torn, in any order.
    Scattered,
}

pub(super) const FATES: [Fate; 5] = [Fate::Lost, Fate::Kept, Fate::TornAtTheEnd, Fate::Some, Fate::Scattered];

#[derive(Debug, Clone)]
enum Change {
    Create,
    Write { at: u64, bytes: Vec<u8> },
    Truncate(u64),
    Delete,
}

/// One file: what is durable of it, and what it was told since.
#[derive(Debug, Clone, Default)]
struct File {
    durable: Option<Vec<u8>>,
    since: Vec<Change>,
}

/// All files of the store, call by call.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    files: BTreeMap<String, File>,
}

impl Disk {
    /// The folder with the one file that was made before SQLite opened it.
    pub(super) fn with(file: &str) -> Self {
        let mut disk = Self::default();
        disk.file(file).durable = Some(Vec::new());
        disk
    }

    fn file(&mut self, name: &str) -> &mut File {
        self.files.entry(name.to_owned()).or_default()
    }

    pub(super) fn take(&mut self, op: &Op) {
        match op {
            Op::Open { file } => self.file(file).since.push(Change::Create),
            Op::Write { file, at, bytes } => {
                let (at, bytes) = (*at, bytes.clone());
                self.file(file).since.push(Change::Write { at, bytes });
            }
            Op::Truncate { file, size } => self.file(file).since.push(Change::Truncate(*size)),
            Op::Sync { file } => {
                // The first synchronisation of a log or a journal is one of the folder too.
                if self.file(file).durable.is_none() {
                    self.sync_names();
                }
                let file = self.file(file);
                for change in std::mem::take(&mut file.since) {
                    apply(&mut file.durable, &change);
                }
            }
            Op::Replaced { file, bytes } => {
                *self.file(file) = File {
                    durable: Some(bytes.clone()),
                    since: Vec::new(),
                };
            }
            // It is neither durable, nor will it ever be.
            Op::FailedSync { file } => self.file(file).since.clear(),
            Op::Delete { file, durable } => {
                let file = self.file(file);
                file.since.push(Change::Delete);
                if *durable {
                    *file = File::default();
                }
            }
        }
    }

    /// What was deleted stays deleted.
    fn sync_names(&mut self) {
        for file in self.files.values_mut() {
            let is_deletion = |change: &Change| matches!(change, Change::Delete);
            if let Some(last) = file.since.iter().rposition(is_deletion) {
                file.durable = None;
                file.since.drain(..=last);
            }
        }
    }

    /// Whether anything is at stake at this moment.
    pub(super) fn is_settled(&self) -> bool {
        let is_nothing = |change: &Change| matches!(change, Change::Create);
        self.files.values().all(|file| file.since.iter().all(is_nothing))
    }

    /// Writes what is left into an empty folder.
    pub(super) fn leave(&self, folder: &Path, fate: Fate, chance: &mut Chance) {
        for (name, file) in &self.files {
            if let Some(bytes) = left(file, fate, chance) {
                fs::write(folder.join(name), bytes).unwrap();
            }
        }
    }
}

fn left(file: &File, fate: Fate, chance: &mut Chance) -> Option<Vec<u8>> {
    let mut image = file.durable.clone();
    let mut since = file.since.clone();
    match fate {
        Fate::Lost => since.clear(),
        Fate::Kept => {}
        Fate::TornAtTheEnd => {
            let last = chance.below(since.len() as u64 + 1) as usize;
            since.truncate(last);
            if let Some(change) = since.pop() {
                since.extend(torn(&change, chance));
            }
        }
        Fate::Some => since.retain(|_| chance.half()),
        Fate::Scattered => {
            since.retain(|_| chance.half());
            since = since.iter().flat_map(|change| torn(change, chance)).collect();
            for place in (1..since.len()).rev() {
                since.swap(place, chance.below(place as u64 + 1) as usize);
            }
        }
    }
    for change in &since {
        apply(&mut image, change);
    }
    image
}

/// Some sectors of a write; anything else happens whole.
fn torn(change: &Change, chance: &mut Chance) -> Vec<Change> {
    let Change::Write { at, bytes } = change else {
        return vec![change.clone()];
    };
    let mut parts = Vec::new();
    let mut from = 0;
    while from < bytes.len() {
        let into = (*at as usize + from) % SECTOR;
        let to = bytes.len().min(from + SECTOR - into);
        if chance.half() {
            parts.push(Change::Write {
                at: *at + from as u64,
                bytes: bytes[from..to].to_vec(),
            });
        }
        from = to;
    }
    parts
}

fn apply(image: &mut Option<Vec<u8>>, change: &Change) {
    match change {
        Change::Delete => *image = None,
        Change::Create => _ = image.get_or_insert_default(),
        Change::Truncate(size) => image.get_or_insert_default().resize(*size as usize, 0),
        Change::Write { at, bytes } => {
            let image = image.get_or_insert_default();
            let (from, to) = (*at as usize, *at as usize + bytes.len());
            if image.len() < to {
                image.resize(to, 0);
            }
            image[from..to].copy_from_slice(bytes);
        }
    }
}
