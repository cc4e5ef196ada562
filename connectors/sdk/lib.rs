//! The contract between Keyfall and a connector.
//!
//! A connector knows how to talk to one kind of downstream system. What it can do is the set of ability traits that it
//! implements (`ability.rs`), never a flag; what the planner needs to know in advance is its [`Descriptor`].
//!
//! This package knows nothing of Keyfall's store, engine or API, and brings no runtime, HTTP client or database driver:
//! a connector sees the store only through what a call hands to it, and a call hands it no more than it needs.

pub mod ability;
pub mod call;
mod deadline;
pub mod descriptor;
pub mod error;
pub mod principal;
pub mod secret;
pub mod system;
pub mod verdict;

#[cfg(feature = "testkit")]
pub mod testkit;

pub use ability::{BoxFuture, Connector, Deliver, Entitle, Inventory, Issue, Probe, Revoke, Sessions, Suspend};
pub use call::{
    Acknowledgement, CallContext, ClockReading, Confirmation, DeliverCall, Delivered, EndSessionsCall, IssueCall,
    IssueObservation, Issued, Placement, ProbeCall, ProbePurpose, ProbeReading, RevokeCall, Revoked, SessionsEnded,
};
pub use descriptor::{Descriptor, IssueClass, Lockout, RefusalCode, SecretShape, SettlingWindow, Strategy};
pub use error::{ConnectorError, ErrorKind, Result};
pub use principal::{KeyId, PlaceReading, PrincipalReading, PrincipalRef, PrincipalState, PrincipalStatus};
pub use secret::SecretValue;
pub use system::{
    AdminCredential, ConfigProblem, ConnectorKind, ServerGrants, SystemSpec, TlsMode, Vantage, VantageRole,
};
pub use verdict::{InconclusiveWhy, Verdict};
