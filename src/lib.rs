//! Keyfall keeps the register of an organisation's non-human identities, rotates and retires their credentials on schedule, and never calls
//! a credential dead until the systems that used to accept it have refused it. The map of this library is `src/README.md`.

pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod engine;
pub mod evidence;
#[cfg(test)]
mod faults;
pub mod http;
pub mod nearest;
pub mod owner_only;
pub mod sealing;
pub mod store;
pub mod telemetry;

/// A run is made of thousands of small pieces that come and go on several threads; the allocator of glibc takes a fifth of the processor
/// for them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
