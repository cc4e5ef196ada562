//! Reproducible randomness: every death has a seed of its own, and `KEYFALL_KILL_SEEDS=FROM..TO` says which deaths a replay dies.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Range;
use std::time::Duration;

/// Names accounts. Not from a seed: the servers may be those of an earlier replay of it, and keep its accounts.
pub(crate) fn prefix() -> u64 {
    RandomState::new().build_hasher().finish() % (1 << 32)
}

/// The deaths that are asked for, else the share of every change's checks.
pub(super) fn deaths(share: Range<u64>) -> Range<u64> {
    let Ok(text) = std::env::var("KEYFALL_KILL_SEEDS") else {
        return share;
    };
    let ends = text
        .split_once("..")
        .and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    ends.filter(|range: &Range<u64>| !range.is_empty())
        .unwrap_or_else(|| panic!("KEYFALL_KILL_SEEDS is {text}; write FROM..TO"))
}

/// One end of the server's process.
pub(super) struct Death {
    /// Counted from the first instruction of the process, so that its start is interrupted too; else from when it answers.
    pub(super) at_birth: bool,
    pub(super) life: Duration,
}

impl Death {
    /// One of four ends a start.
    pub(super) fn of(seed: u64) -> Self {
        let at_birth = seed % 4 == 3;
        let longest = if at_birth { 400 } else { 1100 };
        Self {
            at_birth,
            life: Duration::from_millis(mix(seed) % longest),
        }
    }
}

/// SplitMix64.
fn mix(seed: u64) -> u64 {
    let mixed = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
