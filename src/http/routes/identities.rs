//! Identities: lists, single ones, what is asked for them, and stored secrets.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::{Extension, Json};
use jiff::Timestamp;
use keyfall_sdk::SecretValue;
use serde::{Deserialize, Deserializer, Serialize};

use super::{Answer, AppState, Body, By, Listed, Reason};
use crate::app::{AdoptAsk, Asked, IdentityQuery, IdentityView, PlanView, RotateAsk, RunView, SecretView};
use crate::domain::resource::IdentityKind;
use crate::http::page::Paging;
use crate::http::problem::Problem;

/// Longer than any secret.
const LONGEST_SECRET: usize = 64 * 1024;

pub(super) async fn list(
    State(app): AppState,
    Extension(by): By,
    Listed(query): Listed<IdentityQuery>,
    paging: Paging,
) -> Result<Response, Problem> {
    let found = app.identities(&by, query, paging.query()).await?;
    Ok(paging.answer(&found, |identity| identity.name.clone()))
}

pub(super) async fn show(State(app): AppState, Extension(by): By, Path(name): Path<String>) -> Answer<IdentityView> {
    Ok(Json(app.identity(&by, &name).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rotate {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    emergency: bool,
    #[serde(default)]
    exception: Option<String>,
}

/// A run that has begun, or a plan that waits for a signature.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RunOrPlan {
    Run(Box<RunView>),
    Plan(Box<PlanView>),
}

pub(super) async fn rotate(
    State(app): AppState,
    Extension(by): By,
    Path(name): Path<String>,
    Body(body): Body<Rotate>,
) -> Result<(StatusCode, Json<RunOrPlan>), Problem> {
    let ask = RotateAsk {
        reason: body.reason,
        emergency: body.emergency,
        exception: body.exception,
    };
    let answer = match app.rotate(&by, &name, ask).await? {
        Asked::Run(run) => RunOrPlan::Run(run),
        Asked::Plan(plan) => RunOrPlan::Plan(plan),
    };
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

pub(super) async fn decommission(
    State(app): AppState,
    Extension(by): By,
    Path(name): Path<String>,
    Body(body): Body<Reason>,
) -> Answer<PlanView> {
    Ok(Json(app.decommission(&by, &name, body.reason).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Revoke {
    credential: String,
    #[serde(default)]
    reason: String,
}

pub(super) async fn revoke(
    State(app): AppState,
    Extension(by): By,
    Path(name): Path<String>,
    Body(body): Body<Revoke>,
) -> Answer<PlanView> {
    Ok(Json(app.revoke(&by, &name, &body.credential, body.reason).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Adopt {
    name: String,
    system: String,
    account: String,
    kind: IdentityKind,
    environment: String,
    owner: String,
    expires: Timestamp,
    #[serde(default)]
    take_over: bool,
    #[serde(default, deserialize_with = "secret")]
    secret: Option<SecretValue>,
    #[serde(default)]
    reason: String,
}

/// A value of another kind is not quoted in the answer, as the parser would: it may be the secret without its quotation marks.
fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretValue>, D::Error> {
    match Option::<serde_json::Value>::deserialize(deserializer)? {
        None => Ok(None),
        Some(serde_json::Value::String(text)) => Ok(Some(SecretValue::from(text))),
        Some(_) => Err(serde::de::Error::custom("secret must be a string")),
    }
}

pub(super) async fn adopt(State(app): AppState, Extension(by): By, Body(body): Body<Adopt>) -> Answer<PlanView> {
    let ask = AdoptAsk {
        name: body.name,
        system: body.system,
        account: body.account,
        kind: body.kind,
        environment: body.environment,
        owner: body.owner,
        expires: body.expires,
        take_over: body.take_over,
        secret: body.secret,
        reason: body.reason,
    };
    Ok(Json(app.adopt(&by, ask).await?))
}

/// The body is the secret, as it is.
pub(super) async fn set_secret(
    State(app): AppState,
    Extension(by): By,
    Path(name): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Answer<SecretView> {
    let body = body?;
    if body.is_empty() {
        return Err(Problem::invalid("the body is empty: it must be the secret itself"));
    }
    if body.len() > LONGEST_SECRET {
        return Err(Problem::too_large());
    }
    Ok(Json(app.set_secret(&by, &name, SecretValue::new(body.as_ref())).await?))
}
