//! What Keyfall is about, as plain values and pure functions. No async, no I/O, no clock, no randomness: instants and chance are parameters.
//!
//! The domain knows the connector's vocabulary (`keyfall_sdk`) and nothing of stores, engines or interfaces.

pub mod actor;
pub mod control;
pub mod digest;
pub mod due;
pub mod identity;
pub mod ids;
pub mod landscape;
pub mod length;
pub mod plan;
pub mod planner;
pub mod policy;
pub mod proof;
pub mod resource;
pub mod revoking;
pub mod workflow;
