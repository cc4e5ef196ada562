//! Handing out receipts: the stored body, its record in the log, the proof that the record is there, and the checkpoint, in one signed file.

use serde::Deserialize;

use super::register::{PageQuery, page};
use super::{App, AppError, Caller, ReceiptView, Verb, allow};
use crate::domain::ids::{ReceiptId, RunId};
use crate::evidence::merkle::{NodeId, inclusion_needs, inclusion_proof};
use crate::evidence::receipt::{LogPlace, assemble};
use crate::store::{ReceiptFilter, ReceiptRow};

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReceiptQuery {
    pub identity: Option<String>,
    pub run: Option<String>,
}

impl App {
    /// The latest first.
    ///
    /// # Errors
    /// When the identity is unknown or the run's id is none.
    pub async fn receipts(
        &self,
        caller: &Caller,
        query: ReceiptQuery,
        page_query: PageQuery,
    ) -> Result<Vec<ReceiptView>, AppError> {
        allow(caller, Verb::Read)?;
        let identity = match &query.identity {
            Some(name) => Some(self.named(name).await?.id),
            None => None,
        };
        let run = query.run.as_deref().map(str::parse::<RunId>).transpose();
        let run = run.map_err(|bad| AppError::invalid(bad.to_string()))?;
        let found = self
            .store
            .receipts(&ReceiptFilter { identity, run }, page(page_query))
            .await?;
        Ok(found.into_iter().map(receipt_view).collect())
    }

    /// The file that `keyfall verify` reads, for this receipt or for the last one of a run.
    ///
    /// # Errors
    /// When there is none, or its place in the log is not given yet.
    pub async fn receipt_file(&self, caller: &Caller, id: &str) -> Result<Vec<u8>, AppError> {
        allow(caller, Verb::Read)?;
        let row = self.receipt_row(id).await?;
        let Some(position) = row.log_position else {
            return Err(AppError::Conflict {
                why: format!("{id} waits for its place in the log; ask again in a second"),
            });
        };
        let state = self.store.log_state().await?;
        let failed = |error: &dyn std::fmt::Display| AppError::internal("the receipt could not be assembled", error);
        let needs = inclusion_needs(position, state.size).map_err(|error| failed(&error))?;
        let hashes = self.nodes(&needs).await?;
        let fetch = |wanted: NodeId| {
            needs
                .iter()
                .zip(&hashes)
                .find(|(node, _)| **node == wanted)
                .map(|(_, hash)| *hash)
        };
        let proof = inclusion_proof(position, state.size, &fetch).map_err(|error| failed(&error))?;
        let record = self.store.log(position, 1).await?.into_iter().next();
        let record = record.ok_or_else(|| AppError::Internal {
            what: format!("the log has no record {position}"),
        })?;
        let place = LogPlace {
            record: record.bytes,
            position,
            inclusion_proof: proof,
            checkpoint: self.signed_checkpoint(&state)?,
        };
        assemble(&row.body, &place, &[&self.signing]).map_err(|error| failed(&error))
    }

    async fn receipt_row(&self, id: &str) -> Result<ReceiptRow, AppError> {
        let missing = || AppError::NotFound {
            what: "receipt",
            name: id.to_owned(),
        };
        if let Ok(id) = id.parse::<ReceiptId>() {
            return self.store.receipt(id).await?.ok_or_else(missing);
        }
        let run = id.parse::<RunId>().map_err(|_| missing())?;
        let filter = ReceiptFilter {
            identity: None,
            run: Some(run),
        };
        self.store
            .receipts(&filter, crate::store::Page::first(1))
            .await?
            .into_iter()
            .next()
            .ok_or_else(missing)
    }

    pub(super) async fn nodes(&self, nodes: &[NodeId]) -> Result<Vec<[u8; 32]>, AppError> {
        let places: Vec<_> = nodes.iter().map(|node| (node.level, node.index)).collect();
        Ok(self.store.log_nodes(&places).await?)
    }
}

fn receipt_view(row: ReceiptRow) -> ReceiptView {
    let body: Option<serde_json::Value> = serde_json::from_slice(&row.body).ok();
    let outcome = body
        .as_ref()
        .and_then(|body| body.pointer("/outcome/outcome")?.as_str().map(str::to_owned));
    let identity = body
        .as_ref()
        .and_then(|body| body.pointer("/identity/name")?.as_str().map(str::to_owned));
    ReceiptView {
        id: row.id.to_string(),
        run: row.run.to_string(),
        identity: identity.unwrap_or_else(|| row.identity.to_string()),
        outcome: outcome.unwrap_or_default(),
        at: row.at,
        position: row.log_position,
    }
}
