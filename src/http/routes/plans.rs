//! Plans: proposing, reading the exact bytes, deciding.

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;

use super::{Answer, AppState, Body, By, Listed, Reason};
use crate::app::manifest::ManifestFile;
use crate::app::{PlanView, Signed};
use crate::http::page::Paging;
use crate::http::problem::Problem;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Proposal {
    #[serde(default)]
    reason: String,
    files: Vec<ManifestFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ByStatus {
    status: Option<String>,
}

pub(super) async fn propose(
    State(app): AppState,
    Extension(by): By,
    Body(proposal): Body<Proposal>,
) -> Result<(StatusCode, Json<PlanView>), Problem> {
    let plan = app.plan_manifests(&by, proposal.reason, proposal.files).await?;
    // Nothing was made when there is nothing to do.
    let status = if plan.empty {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    Ok((status, Json(plan)))
}

pub(super) async fn list(
    State(app): AppState,
    Extension(by): By,
    Listed(filter): Listed<ByStatus>,
    paging: Paging,
) -> Result<Response, Problem> {
    let plans = app.plans(&by, filter.status.as_deref(), paging.query()).await?;
    Ok(paging.answer(&plans, |plan| plan.id.clone()))
}

pub(super) async fn show(State(app): AppState, Extension(by): By, Path(id): Path<String>) -> Answer<PlanView> {
    Ok(Json(app.plan(&by, &id).await?))
}

/// The very bytes whose digest is signed.
pub(super) async fn content(
    State(app): AppState,
    Extension(by): By,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let bytes = app.plan_content(&by, &id).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], bytes).into_response())
}

pub(super) async fn approve(
    State(app): AppState,
    Extension(by): By,
    Path(id): Path<String>,
    Body(signed): Body<Signed>,
) -> Answer<PlanView> {
    Ok(Json(app.approve(&by, &id, signed).await?))
}

pub(super) async fn reject(
    State(app): AppState,
    Extension(by): By,
    Path(id): Path<String>,
    Body(body): Body<Reason>,
) -> Answer<PlanView> {
    Ok(Json(app.reject(&by, &id, body.reason).await?))
}
