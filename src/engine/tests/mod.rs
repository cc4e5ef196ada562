//! The engine on the real store, with scripted steps at its own seam: what is durable when, what a crash at each commit leaves, what holds
//! a destructive step back. Real connectors are tried in `steps` and in the tests of the whole binary.

mod answers;
mod barriers;
mod clocks;
mod crash;
mod due;
mod dying;
mod looks;
mod runs;
mod schedule;
mod script;
mod seen;
mod sweeps;
mod world;
