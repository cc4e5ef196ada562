//! Looking at what is registered, at what exists downstream, and at what is wrong.

use axum::extract::{Path, State};
use axum::response::Response;
use axum::{Extension, Json};

use super::{Answer, AppState, By, Listed};
use crate::app::{AccountView, DoctorLine, FindingQuery, NodeView, ResourceView, ReviewView, StatusView};
use crate::http::page::Paging;
use crate::http::problem::Problem;

pub(super) async fn status(State(app): AppState, Extension(by): By) -> Answer<StatusView> {
    Ok(Json(app.status(&by).await?))
}

pub(super) async fn nodes(State(app): AppState, Extension(by): By) -> Answer<Vec<NodeView>> {
    Ok(Json(app.servers(&by).await?))
}

pub(super) async fn accounts(
    State(app): AppState,
    Extension(by): By,
    Path(system): Path<String>,
) -> Answer<Vec<AccountView>> {
    Ok(Json(app.discover(&by, &system).await?))
}

pub(super) async fn resources(
    State(app): AppState,
    Extension(by): By,
    Path(kind): Path<String>,
) -> Answer<Vec<ResourceView>> {
    Ok(Json(app.resources(&by, &kind).await?))
}

pub(super) async fn resource(
    State(app): AppState,
    Extension(by): By,
    Path((kind, name)): Path<(String, String)>,
) -> Answer<ResourceView> {
    Ok(Json(app.resource(&by, &kind, &name).await?))
}

pub(super) async fn findings(
    State(app): AppState,
    Extension(by): By,
    Listed(query): Listed<FindingQuery>,
    paging: Paging,
) -> Result<Response, Problem> {
    let found = app.findings(&by, query, paging.query()).await?;
    // Open ones stand first, so a page's last row is named with which of the two it was.
    Ok(paging.answer(&found, |finding| {
        let state = if finding.resolved_at.is_none() {
            "open"
        } else {
            "resolved"
        };
        format!("{state}:{}", finding.id)
    }))
}

pub(super) async fn review(State(app): AppState, Extension(by): By) -> Answer<ReviewView> {
    Ok(Json(app.review(&by).await?))
}

pub(super) async fn doctor(State(app): AppState, Extension(by): By) -> Answer<Vec<DoctorLine>> {
    Ok(Json(app.doctor(&by).await?))
}
