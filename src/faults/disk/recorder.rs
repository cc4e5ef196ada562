//! Every call that SQLite makes on the store's files, in order, and between them what the test has to tell.

use std::path::Path;
use std::sync::{Arc, Mutex};

use keyfall_vfs::{Call, Failure, Watcher};

use crate::domain::ids::RunId;

/// What reached a file. `file` is its name in the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Op {
    Open { file: String },
    Write { file: String, at: u64, bytes: Vec<u8> },
    Truncate { file: String, size: u64 },
    Sync { file: String },
    Delete { file: String, durable: bool },
}

/// What somebody outside of the store relies on from this moment on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    /// A commit with these log entries was answered as stored.
    Answered(Vec<Vec<u8>>),
    /// An effect was sent, whose intent is this event of this run.
    Sent { run: RunId, seq: u32 },
}

#[derive(Debug, Clone, Default)]
pub(super) struct Tape {
    pub(super) ops: Vec<Op>,
    /// With the number of calls that were made before.
    pub(super) told: Vec<(usize, Told)>,
}

#[derive(Default)]
pub(super) struct Recorder(Mutex<Tape>);

impl Recorder {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(super) fn tell(&self, told: Told) {
        let mut tape = self.0.lock().unwrap();
        let at = tape.ops.len();
        tape.told.push((at, told));
    }

    pub(super) fn tape(&self) -> Tape {
        self.0.lock().unwrap().clone()
    }
}

impl Watcher for Recorder {
    fn about_to(&self, call: Call<'_>) -> Result<(), Failure> {
        if let Some(op) = op_of(call) {
            self.0.lock().unwrap().ops.push(op);
        }
        Ok(())
    }
}

/// Reading changes nothing.
pub(super) fn op_of(call: Call<'_>) -> Option<Op> {
    Some(match call {
        Call::Read { .. } => return None,
        Call::Open { file } => Op::Open { file: name(file) },
        Call::Write { file, at, bytes } => Op::Write {
            file: name(file),
            at,
            bytes: bytes.to_vec(),
        },
        Call::Truncate { file, size } => Op::Truncate { file: name(file), size },
        Call::Sync { file } => Op::Sync { file: name(file) },
        Call::Delete { file, durable } => Op::Delete {
            file: name(file),
            durable,
        },
    })
}

fn name(path: &str) -> String {
    let name = Path::new(path).file_name().unwrap();
    name.to_str().unwrap().to_owned()
}
