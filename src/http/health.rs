//! What is asked without a token: is the process alive, can it work, its metrics. None of it names an identity.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::ApiState;
use super::problem::Problem;

pub(super) async fn alive() -> &'static str {
    "ok\n"
}

pub(super) async fn ready(State(api): ApiState) -> Response {
    let checks = api.vitals.readiness().await;
    let failed: Vec<String> = checks
        .iter()
        .filter_map(|(name, result)| Some(format!("{name}: {}", result.as_ref().err()?)))
        .collect();
    if failed.is_empty() {
        return "ready\n".into_response();
    }
    Problem::unready(failed.join("; ")).into_response()
}

pub(super) async fn metrics(State(api): ApiState) -> Response {
    api.vitals.refresh_gauges().await;
    api.metrics.run_upkeep();
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], api.metrics.render()).into_response()
}
