//! What the use cases allow and refuse, on the real store, with real signatures.

mod identities;
mod people;
mod world;
