//! Reading the audit log, and its checkpoints.

use serde_json::json;

use super::{App, AppError, AuditView, Caller, Verb, allow};
use crate::evidence::checkpoint::Checkpoint;
use crate::evidence::merkle::{Hash, NodeId, consistency_needs, consistency_proof};
use crate::evidence::record::AuditRecord;
use crate::store::{LogPage, LogState};

impl App {
    /// Decoded, for people. At most 1,000 at once.
    ///
    /// # Errors
    /// When a record cannot be decoded: the log is damaged.
    pub async fn audit(&self, caller: &Caller, from: u64, limit: u32) -> Result<Vec<AuditView>, AppError> {
        allow(caller, Verb::Read)?;
        let entries = self.store.log(from, limit.clamp(1, 1000)).await?;
        entries
            .into_iter()
            .map(|entry| {
                let record = AuditRecord::decode(&entry.bytes);
                let record =
                    record.map_err(|error| AppError::internal(&format!("record {}", entry.position), &error))?;
                Ok(AuditView {
                    position: entry.position,
                    at: entry.at,
                    record: record_json(&record),
                })
            })
            .collect()
    }

    /// As they were hashed. At most 10,000 at once.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn audit_raw(&self, caller: &Caller, from: u64, limit: u32) -> Result<Vec<LogPage>, AppError> {
        allow(caller, Verb::Export)?;
        Ok(self.store.log(from, limit.clamp(1, 10_000)).await?)
    }

    /// The signed state of the log at this instant.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn checkpoint(&self, caller: &Caller) -> Result<String, AppError> {
        allow(caller, Verb::Read)?;
        self.signed_checkpoint(&self.store.log_state().await?)
    }

    /// What shows that the log of size `to` extends the one of size `from`.
    ///
    /// # Errors
    /// When the log was never that large.
    pub async fn consistency(&self, caller: &Caller, from: u64, to: u64) -> Result<Vec<Hash>, AppError> {
        allow(caller, Verb::Read)?;
        let unfit = |error: crate::evidence::merkle::MerkleError| AppError::invalid(error.to_string());
        let needs = consistency_needs(from, to).map_err(unfit)?;
        let hashes = self.nodes(&needs).await?;
        let fetch = |wanted: NodeId| {
            needs
                .iter()
                .zip(&hashes)
                .find(|(node, _)| **node == wanted)
                .map(|(_, hash)| *hash)
        };
        consistency_proof(from, to, &fetch).map_err(unfit)
    }

    pub(super) fn signed_checkpoint(&self, state: &LogState) -> Result<String, AppError> {
        let checkpoint = Checkpoint {
            origin: self.settings.origin.clone(),
            size: state.size,
            root: state.root,
        };
        checkpoint
            .sign(&[&self.signing])
            .map_err(|error| AppError::internal("the checkpoint could not be signed", &error))
    }
}

fn record_json(record: &AuditRecord<'_>) -> serde_json::Value {
    let details: serde_json::Value =
        serde_json::from_str(&record.details).unwrap_or_else(|_| serde_json::Value::String(record.details.to_string()));
    json!({
        "id": record.id,
        "at_micros": record.at_micros,
        "run": record.run,
        "step": record.step,
        "action": record.action,
        "trigger": record.trigger,
        "initiator": { "kind": record.initiator.kind.name(), "id": record.initiator.id, "name": record.initiator.name },
        "approvers": record.approvers,
        "plan_digest": record.plan_digest.map(|digest| crate::domain::digest::Digest(digest).to_string()),
        "rule": record.rule,
        "identity": record.identity,
        "system": record.system,
        "permissions_before": record.permissions_before,
        "permissions_after": record.permissions_after,
        "attempt": record.attempt,
        "exception": record.exception.as_ref().map(|one| json!({ "cause": one.cause.name(), "note": one.note })),
        "outcome": record.outcome,
        "details": details,
    })
}
