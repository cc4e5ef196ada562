//! The servers that share a store, and what they lean on together: rows and answers. It knows no SQL.

use jiff::{SignedDuration, Timestamp};

/// One server. All instants are the store's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRow {
    pub name: String,
    /// Drawn at each start.
    pub instance: String,
    /// Of the program.
    pub version: String,
    /// The newest list of steps that it knows.
    pub workflow: u32,
    /// Where its API answers; empty while it is not said.
    pub address: String,
    pub started_at: Timestamp,
    pub seen_at: Timestamp,
    /// How far its wall clock is ahead of the store's.
    pub clock_ahead: SignedDuration,
    /// It is stopping: it claims nothing more.
    pub draining: bool,
    /// When it said that it stops.
    pub gone_at: Option<Timestamp>,
}

impl NodeRow {
    /// It has not said that it stops, and was not silent for longer than this.
    #[must_use]
    pub fn is_alive(&self, now: Timestamp, believed_for: SignedDuration) -> bool {
        self.gone_at.is_none() && now.duration_since(self.seen_at) <= believed_for
    }
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSays {
    pub name: String,
    pub instance: String,
    pub version: String,
    pub workflow: u32,
    pub address: String,
    pub clock_ahead: SignedDuration,
    pub draining: bool,
    /// The first word of this instance. Only then the name of another one is taken over, and only of one that is gone or silent.
    pub starts: bool,
    /// The last word.
    pub gone: bool,
    /// One that was silent for longer is dead.
    pub believed_for: SignedDuration,
    /// The instance whose process is known to have ended, however lately it was heard.
    pub ended: Option<String>,
}

/// Whether a node's name is its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    Ours,
    /// Another instance has it, seen then.
    Taken {
        by: NodeRow,
    },
}

/// What a node asks of a system that all nodes lean on together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareAsk {
    pub system: String,
    pub node: String,
    /// In whole, with those that it has. `None`: slots are not asked about.
    pub slots: Option<u32>,
    /// Of all nodes together.
    pub concurrency: u32,
    /// For how long slots are given without being asked for again.
    pub slots_for: SignedDuration,
    pub calls: u32,
    /// Of all nodes together. A second's worth may be given at once.
    pub calls_per_second: u32,
    /// It fails for this node: everybody leaves it alone for so long.
    pub leave_alone_for: Option<SignedDuration>,
}

/// What it gets. Lengths are from the instant of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    pub slots: u32,
    pub calls: u32,
    /// After how long there are more calls, when there were none.
    pub more_calls_in: SignedDuration,
    pub left_alone_for: Option<SignedDuration>,
}
