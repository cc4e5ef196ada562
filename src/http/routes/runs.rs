//! Runs: lists, single ones, and what a person may do with one that is stuck. Their events are in `sse.rs`.

use axum::extract::{Path, State};
use axum::response::Response;
use axum::{Extension, Json};

use super::{Answer, AppState, Body, By, Listed, Reason};
use crate::app::{RunQuery, RunView};
use crate::http::page::Paging;
use crate::http::problem::Problem;

pub(super) async fn list(
    State(app): AppState,
    Extension(by): By,
    Listed(query): Listed<RunQuery>,
    paging: Paging,
) -> Result<Response, Problem> {
    let runs = app.runs(&by, query, paging.query()).await?;
    Ok(paging.answer(&runs, |run| run.id.clone()))
}

pub(super) async fn show(State(app): AppState, Extension(by): By, Path(id): Path<String>) -> Answer<RunView> {
    Ok(Json(app.run(&by, &id).await?))
}

pub(super) async fn retry(
    State(app): AppState,
    Extension(by): By,
    Path(id): Path<String>,
    Body(body): Body<Reason>,
) -> Answer<RunView> {
    Ok(Json(app.retry(&by, &id, body.reason).await?))
}

pub(super) async fn resume(
    State(app): AppState,
    Extension(by): By,
    Path(id): Path<String>,
    Body(body): Body<Reason>,
) -> Answer<RunView> {
    Ok(Json(app.resume(&by, &id, body.reason).await?))
}

pub(super) async fn cancel(
    State(app): AppState,
    Extension(by): By,
    Path(id): Path<String>,
    Body(body): Body<Reason>,
) -> Answer<RunView> {
    Ok(Json(app.cancel(&by, &id, body.reason).await?))
}
