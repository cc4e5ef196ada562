//! Evidence that anyone can check offline: the audit record's bytes, the Merkle log over them, signed checkpoints, signed approvals, and the
//! receipt of a death.
//!
//! Pure: this module knows no store, no engine, no SQL, no HTTP, no runtime, no clock and no randomness (a source of it is a parameter).
//! The one exception is `keys.rs`, which reads and creates key files.

pub mod approval;
pub mod audit;
pub mod checkpoint;
pub mod keys;
pub mod merkle;
pub mod note;
pub mod receipt;
pub mod record;
pub mod verify;
