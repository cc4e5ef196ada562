//! What the use cases allow and refuse, on the real store, with real signatures.

mod adopting;
mod identities;
mod people;
mod secrets;
mod world;
