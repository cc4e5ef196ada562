//! Draws of one purpose. Each purpose has a sequence of its own, so that one more draw for the network moves no draw of the script.

use std::time::Duration;

use crate::clock::SeededChance;

pub(super) struct Dice(SeededChance);

impl Dice {
    /// `purpose` tells the sequences of one seed apart.
    pub(super) fn new(seed: u64, purpose: u64) -> Self {
        Self(SeededChance::new(
            seed.wrapping_mul(0xa076_1d64_78bd_642f) ^ purpose.wrapping_mul(0xe703_7ed1_a0b4_28db),
        ))
    }

    pub(super) fn below(&self, limit: u64) -> u64 {
        self.0.draw() % limit.max(1)
    }

    pub(super) fn between(&self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    /// In so many of a thousand cases.
    pub(super) fn permille(&self, of_thousand: u64) -> bool {
        self.below(1000) < of_thousand
    }

    pub(super) fn pick<T: Copy>(&self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }

    pub(super) fn millis(&self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.between(least, most))
    }
}
