//! Stopping everything destructive, going on, backups, and the key that seals.

use axum::extract::State;
use axum::{Extension, Json};
use serde::Deserialize;

use super::{Answer, AppState, Body, By, Reason};
use crate::app::{BackupView, KekView, PlanView, StatusView};

pub(super) async fn freeze(State(app): AppState, Extension(by): By, Body(body): Body<Reason>) -> Answer<StatusView> {
    Ok(Json(app.freeze(&by, body.reason).await?))
}

pub(super) async fn unfreeze(State(app): AppState, Extension(by): By, Body(body): Body<Reason>) -> Answer<PlanView> {
    Ok(Json(app.unfreeze(&by, body.reason).await?))
}

pub(super) async fn rearm(State(app): AppState, Extension(by): By, Body(body): Body<Reason>) -> Answer<PlanView> {
    Ok(Json(app.rearm(&by, body.reason).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Backup {
    name: String,
}

pub(super) async fn backup(State(app): AppState, Extension(by): By, Body(body): Body<Backup>) -> Answer<BackupView> {
    Ok(Json(app.backup(&by, &body.name).await?))
}

pub(super) async fn rotate_kek(State(app): AppState, Extension(by): By) -> Answer<KekView> {
    Ok(Json(app.rotate_kek(&by).await?))
}
