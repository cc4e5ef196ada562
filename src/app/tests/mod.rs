//! What the use cases allow and refuse, on the real store, with real signatures.

mod acting;
mod adopting;
mod examining;
mod identities;
mod people;
mod places;
mod plans;
mod policies;
mod secrets;
mod stopping;
mod taken_back;
mod watching;
mod world;
