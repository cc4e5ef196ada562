//! Reproducible randomness: the seed of a failure is printed, and given again by `KEYFALL_TEST_SEED`.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// Names accounts. Not from the seed: the servers may be those of an earlier replay of it, and keep its accounts.
pub(super) fn prefix() -> u64 {
    RandomState::new().build_hasher().finish() % (1 << 32)
}

/// SplitMix64.
pub(super) struct Seed(u64);

impl Seed {
    /// From the environment, else another one at each run.
    pub(super) fn get() -> Self {
        let given = std::env::var("KEYFALL_TEST_SEED").ok();
        let seed = given.map_or_else(
            || RandomState::new().build_hasher().finish() % 1_000_000,
            |text| text.parse().expect("KEYFALL_TEST_SEED is a number"),
        );
        println!("replay: KEYFALL_TEST_SEED={seed} cargo test --test it kills::");
        Self(seed)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    pub(super) fn millis(&mut self, bound: u64) -> Duration {
        Duration::from_millis(self.below(bound))
    }
}
