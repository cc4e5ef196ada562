//! The engine on the real store, with scripted steps at its own seam: what is durable when, what a crash at each commit leaves, what holds
//! a destructive step back. Real connectors are tried in `steps` and in the tests of the whole binary.

mod answers;
mod aside;
mod barriers;
mod clocks;
mod crash;
mod due;
pub(crate) mod dying;
mod late;
pub(crate) mod looks;
mod nodes;
mod preparing;
mod reconcile;
mod rows;
mod runs;
mod schedule;
pub(crate) mod script;
mod seen;
mod sharing;
mod sweeps;
mod told;
pub(crate) mod world;
