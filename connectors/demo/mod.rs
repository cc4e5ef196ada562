//! The demo system: an in-memory provider that waits, lies and fails on request, and an in-memory destination beside it.
//!
//! They ship in the binary, so that a newcomer can try Keyfall, an operator can rehearse a failure and a test can break
//! any promise on purpose. What is true downstream is held by [`Provider`], apart from what the connector says about it:
//! a test compares the two. Nothing here knows an engine, a store or a real system.

mod account;
mod connector;
mod control;
mod destination;
mod faults;
mod life;
mod logins;
mod options;
mod provider;
mod state_folder;
mod strangers;
#[cfg(test)]
mod tests;

pub use account::{Account, Key, Session};
pub use connector::DemoKind;
pub use destination::{Destination, DestinationKind, Uptake, destination};
pub use faults::{Fault, FaultRule, Faults, Flapping, Lie, LockoutFault, Operation, VantageFaults};
pub use provider::{Provider, forget_provider, provider, provider_in};
