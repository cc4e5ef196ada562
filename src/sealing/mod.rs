//! Secrets at rest: a fresh data key for every row, wrapped by a key-encrypting key (KEK) that lives outside the store.
//!
//! This module knows no store, no engine and no clock; randomness is a parameter. The only I/O is reading and creating the file of a KEK.

mod generate;
mod kek;
mod keyring;

pub use generate::{GenerateError, SecretGenerator};
pub use kek::{Kek, KekError, KekId};
pub use keyring::{ALGORITHM, Keyring, SealContext, SealError, Sealed};

#[cfg(test)]
mod tests;
