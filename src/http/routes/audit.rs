//! The audit log and the receipts: for people, and as the bytes that were hashed and signed.

use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;

use super::{Answer, AppState, By, Filter, Listed};
use crate::app::{AuditView, ReceiptQuery};
use crate::http::page::Paging;
use crate::http::problem::Problem;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct From {
    #[serde(default)]
    from: u64,
    limit: Option<u32>,
}

pub(super) async fn list(
    State(app): AppState,
    Extension(by): By,
    Filter(query): Filter<From>,
) -> Answer<Vec<AuditView>> {
    Ok(Json(app.audit(&by, query.from, query.limit.unwrap_or(100)).await?))
}

/// NDJSON: `{"position": 7, "record": "<base64>", "leaf": "<base64 of how its hash began when it got its position>"}`.
pub(super) async fn raw(
    State(app): AppState,
    Extension(by): By,
    Filter(query): Filter<From>,
) -> Result<Response, Problem> {
    let records = app.audit_raw(&by, query.from, query.limit.unwrap_or(1000)).await?;
    let mut text = String::new();
    for entry in records {
        let (record, leaf) = (STANDARD.encode(entry.bytes), STANDARD.encode(entry.mark));
        let line = json!({ "position": entry.position, "record": record, "leaf": leaf });
        text.push_str(&line.to_string());
        text.push('\n');
    }
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], text).into_response())
}

/// The signed note.
pub(super) async fn checkpoint(State(app): AppState, Extension(by): By) -> Result<String, Problem> {
    Ok(app.checkpoint(&by).await?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sizes {
    from: u64,
    to: u64,
}

/// Base64 of each hash of the proof.
pub(super) async fn consistency(
    State(app): AppState,
    Extension(by): By,
    Filter(sizes): Filter<Sizes>,
) -> Answer<Vec<String>> {
    let proof = app.consistency(&by, sizes.from, sizes.to).await?;
    Ok(Json(proof.iter().map(|hash| STANDARD.encode(hash)).collect()))
}

pub(super) async fn receipts(
    State(app): AppState,
    Extension(by): By,
    Listed(query): Listed<ReceiptQuery>,
    paging: Paging,
) -> Result<Response, Problem> {
    let found = app.receipts(&by, query, paging.query()).await?;
    Ok(paging.answer(&found, |receipt| receipt.id.clone()))
}

/// The file that `keyfall verify` reads.
pub(super) async fn receipt(
    State(app): AppState,
    Extension(by): By,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let bytes = app.receipt_file(&by, &id).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], bytes).into_response())
}
