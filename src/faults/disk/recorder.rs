//! Every call that SQLite makes on the store's files, in order, and between them what the test has to tell.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use keyfall_vfs::{Call, Failure, Watcher};

use crate::domain::ids::RunId;

/// What reached a file. `file` is its name in the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Op {
    Open {
        file: String,
    },
    Write {
        file: String,
        at: u64,
        bytes: Vec<u8>,
    },
    Truncate {
        file: String,
        size: u64,
    },
    Sync {
        file: String,
    },
    /// It failed: the system has forgotten that there is something to write, and goes on showing it.
    FailedSync {
        file: String,
    },
    /// The file is another one than the last process left, with these bytes.
    Replaced {
        file: String,
        bytes: Vec<u8>,
    },
    Delete {
        file: String,
        durable: bool,
    },
}

/// What fails, from its first call on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One write finds no room; a part of it is written.
    FullOnce,
    /// No write finds room until the process is started again.
    Full,
    /// One call of any kind is answered with an error of the device; a part of a write is written.
    Broken,
    /// The first synchronisation from there on fails.
    Unsynchronised,
    /// The first one of the write-ahead log.
    LogUnsynchronised,
    /// One reading fails.
    Unreadable,
}

#[derive(Debug, Clone, Copy)]
struct Plan {
    kind: Kind,
    /// Calls to let pass.
    after: usize,
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
struct State {
    tape: Tape,
    plan: Option<Plan>,
    has_failed: bool,
    /// The number of the write-ahead log in its file system, as the last process left it.
    left: Option<u64>,
    /// Calls since the plan was made, readings or others, as the plan counts them.
    passed: usize,
}

#[derive(Default)]
pub(super) struct Recorder(Mutex<State>);

impl Recorder {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// From here on so many calls pass, and then this fails.
    pub(super) fn fail(&self, kind: Kind, after: usize) {
        let mut state = self.0.lock().unwrap();
        state.plan = Some(Plan { kind, after });
        (state.has_failed, state.passed) = (false, 0);
    }

    /// Behind what was recorded by another, on a store with this write-ahead log.
    pub(super) fn going_on(tape: Tape, log: &Path) -> Arc<Self> {
        let state = State {
            tape,
            left: fs::metadata(log).ok().map(|found| found.ino()),
            ..State::default()
        };
        Arc::new(Self(Mutex::new(state)))
    }

    pub(super) fn has_failed(&self) -> bool {
        self.0.lock().unwrap().has_failed
    }

    pub(super) fn tell(&self, told: Told) {
        let tape = &mut self.0.lock().unwrap().tape;
        tape.told.push((tape.ops.len(), told));
    }

    pub(super) fn tape(&self) -> Tape {
        self.0.lock().unwrap().tape.clone()
    }
}

impl Watcher for Recorder {
    fn about_to(&self, call: Call<'_>) -> Result<(), Failure> {
        let mut state = self.0.lock().unwrap();
        state.notice_replaced(call);
        let failure = state.judge(call);
        let Some(op) = op_of(call) else {
            return failure.map_or(Ok(()), Err);
        };
        match (failure, op) {
            (None, op) => state.tape.ops.push(op),
            (Some(Failure::Full { after } | Failure::Broken { after }), Op::Write { file, at, mut bytes }) => {
                bytes.truncate(after);
                state.tape.ops.push(Op::Write { file, at, bytes });
            }
            (Some(_), Op::Sync { file }) => state.tape.ops.push(Op::FailedSync { file }),
            (Some(_), _) => {}
        }
        failure.map_or(Ok(()), Err)
    }
}

impl State {
    /// What is done to files before SQLite opens them does not come by here.
    fn notice_replaced(&mut self, call: Call<'_>) {
        let Call::Open { file } = call else { return };
        if !file.ends_with("-wal") {
            return;
        }
        if let (Some(left), Ok(found)) = (self.left.take(), fs::metadata(file))
            && found.ino() != left
        {
            let bytes = fs::read(file).unwrap();
            self.tape.ops.push(Op::Replaced {
                file: name(file),
                bytes,
            });
        }
    }

    fn judge(&mut self, call: Call<'_>) -> Option<Failure> {
        let plan = self.plan?;
        let is_reading = matches!(call, Call::Read { .. });
        if is_reading != (plan.kind == Kind::Unreadable) {
            return None;
        }
        self.passed += 1;
        if self.passed <= plan.after {
            return None;
        }
        let length = match call {
            Call::Write { bytes, .. } => bytes.len(),
            _ => 0,
        };
        let is_write = matches!(call, Call::Write { .. });
        let is_sync = matches!(call, Call::Sync { .. });
        let is_of_log = matches!(call, Call::Sync { file } if file.ends_with("-wal"));
        let fails = match plan.kind {
            Kind::Full => is_write,
            Kind::FullOnce => is_write && !self.has_failed,
            Kind::Broken | Kind::Unreadable => !self.has_failed,
            Kind::Unsynchronised => is_sync && !self.has_failed,
            Kind::LogUnsynchronised => is_of_log && !self.has_failed,
        };
        if !fails {
            return None;
        }
        self.has_failed = true;
        // Which part is written is as good as chance.
        let after = length * (plan.after % 4) / 4;
        Some(match plan.kind {
            Kind::Full | Kind::FullOnce => Failure::Full { after },
            _ => Failure::Broken { after },
        })
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
