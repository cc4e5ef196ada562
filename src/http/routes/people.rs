//! People and their tokens.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, AppState, Body, By, Reason};
use crate::app::{EnrolAsk, PersonView, PlanView};
use crate::domain::length;
use crate::http::problem::Problem;

pub(super) async fn list(State(app): AppState, Extension(by): By) -> Answer<Vec<PersonView>> {
    Ok(Json(app.people(&by).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Enrol {
    name: String,
    roles: Vec<String>,
    #[serde(default)]
    public_key: Option<String>,
    /// SHA-256 of a token that the person has already: `sha256:…`.
    #[serde(default)]
    token_digest: Option<String>,
    #[serde(default)]
    reason: String,
}

pub(super) async fn enrol(State(app): AppState, Extension(by): By, Body(body): Body<Enrol>) -> Answer<PlanView> {
    let ask = EnrolAsk {
        name: body.name,
        roles: body.roles,
        public_key: body.public_key,
        token_digest: body.token_digest,
        reason: body.reason,
    };
    Ok(Json(app.enrol(&by, ask).await?))
}

pub(super) async fn retire(
    State(app): AppState,
    Extension(by): By,
    Path(name): Path<String>,
    Body(body): Body<Reason>,
) -> Answer<PlanView> {
    Ok(Json(app.retire(&by, &name, body.reason).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewToken {
    #[serde(default)]
    label: String,
    /// As manifests write lengths: `30d`.
    #[serde(default, with = "length::optional")]
    ttl: Option<jiff::SignedDuration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OldToken {
    /// SHA-256 of the token: `sha256:…`. The token itself need not travel again.
    token_digest: String,
}

pub(super) async fn revoke_token(
    State(app): AppState,
    Extension(by): By,
    Path(name): Path<String>,
    Body(body): Body<OldToken>,
) -> Answer<Value> {
    app.revoke_token(&by, &name, &body.token_digest).await?;
    Ok(Json(json!({ "revoked": body.token_digest })))
}

/// The one answer that holds a secret: the token, once, to whoever asked for it.
pub(super) async fn issue_token(
    State(app): AppState,
    Extension(by): By,
    Path(name): Path<String>,
    Body(body): Body<NewToken>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let issued = app.issue_token(&by, &name, body.label, body.ttl).await?;
    let token = issued.token.expose_secret_str().ok_or_else(Problem::internal)?;
    let answer = json!({ "token": token, "expires_at": issued.expires_at });
    Ok((StatusCode::CREATED, Json(answer)))
}
