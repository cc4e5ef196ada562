//! The receipt of a run that ended credentials: what was done and seen, signed, with its place in the audit log.
//!
//! The order of things: the body is written; its SHA-256 goes into the run's closing audit record; the record gets its position; a checkpoint
//! over it is signed; then the file is put together from body, record, inclusion proof and checkpoint. So the log commits to the receipt, and
//! a server cannot show two receipts for one run. This module knows no store, no clock and no randomness.

mod body;
mod file;
mod rule;
mod verify;

pub use body::{
    CredentialEnd, CredentialEvidence, DeclaredDone, ExceptionFacts, FORMAT, IdentityFacts, ReceiptBody, RunFacts,
    SystemFacts, VantageEvidence, vantage_evidence,
};
pub use file::{AssembleError, LogPlace, ReceiptFile, assemble};
pub use rule::proof_holds;
pub use verify::{VerifiedReceipt, VerifierKeys, VerifyError, verify_receipt};

#[cfg(test)]
mod tests;
