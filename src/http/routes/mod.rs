//! The one table of everything below `/v1`, and what its handlers share. A handler calls one use case.

mod audit;
mod identities;
mod people;
mod plans;
mod register;
mod runs;
mod stopping;

use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Query, State};
use axum::http::Uri;
use axum::http::request::Parts;
use axum::routing::{MethodRouter, get, post, put};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::problem::Problem;
use super::{Api, page, sse};
use crate::app::{App, Caller};

type AppState = State<Arc<App>>;
type By = Extension<Caller>;
/// What most handlers answer.
type Answer<T> = Result<Json<T>, Problem>;

/// A JSON body; what is wrong with it is told as a problem.
#[derive(FromRequest)]
#[from_request(via(Json), rejection(Problem))]
struct Body<T>(T);

/// The query's parameters; what is wrong with them is told as a problem.
#[derive(FromRequestParts)]
#[from_request(via(Query), rejection(Problem))]
struct Filter<T>(T);

/// The query's parameters of a list, beside those that [`super::page::Paging`] reads.
struct Listed<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Listed<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = page::others(parts.uri.query().unwrap_or_default())
            .collect::<Vec<_>>()
            .join("&");
        let uri = Uri::try_from(format!("/?{query}")).map_err(|error| Problem::invalid(error.to_string()))?;
        let Query(wanted) = Query::try_from_uri(&uri)?;
        Ok(Self(wanted))
    }
}

/// The body of everything that needs nothing but a reason.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reason {
    #[serde(default)]
    reason: String,
}

struct Route {
    method: &'static str,
    path: &'static str,
    handler: fn() -> MethodRouter<Api>,
}

const fn route(method: &'static str, path: &'static str, handler: fn() -> MethodRouter<Api>) -> Route {
    Route { method, path, handler }
}

const ROUTES: &[Route] = &[
    route("GET", "/v1/status", || get(register::status)),
    route("POST", "/v1/plans", || post(plans::propose)),
    route("GET", "/v1/plans", || get(plans::list)),
    route("GET", "/v1/plans/{id}", || get(plans::show)),
    route("GET", "/v1/plans/{id}/content", || get(plans::content)),
    route("POST", "/v1/plans/{id}/approve", || post(plans::approve)),
    route("POST", "/v1/plans/{id}/reject", || post(plans::reject)),
    route("GET", "/v1/identities", || get(identities::list)),
    route("GET", "/v1/identities/{name}", || get(identities::show)),
    route("POST", "/v1/identities/{name}/rotate", || post(identities::rotate)),
    route("POST", "/v1/identities/{name}/decommission", || {
        post(identities::decommission)
    }),
    route("POST", "/v1/identities/{name}/revoke", || post(identities::revoke)),
    route("POST", "/v1/adopt", || post(identities::adopt)),
    route("PUT", "/v1/secrets/{name}", || put(identities::set_secret)),
    route("GET", "/v1/systems/{name}/accounts", || get(register::accounts)),
    route("GET", "/v1/resources/{kind}", || get(register::resources)),
    route("GET", "/v1/resources/{kind}/{name}", || get(register::resource)),
    route("GET", "/v1/findings", || get(register::findings)),
    route("GET", "/v1/review", || get(register::review)),
    route("GET", "/v1/doctor", || get(register::doctor)),
    route("GET", "/v1/nodes", || get(register::nodes)),
    route("GET", "/v1/runs", || get(runs::list)),
    route("GET", "/v1/runs/{id}", || get(runs::show)),
    route("GET", "/v1/runs/{id}/events", || get(sse::events)),
    route("POST", "/v1/runs/{id}/retry", || post(runs::retry)),
    route("POST", "/v1/runs/{id}/resume", || post(runs::resume)),
    route("POST", "/v1/runs/{id}/cancel", || post(runs::cancel)),
    route("GET", "/v1/receipts", || get(audit::receipts)),
    route("GET", "/v1/receipts/{id}", || get(audit::receipt)),
    route("GET", "/v1/audit", || get(audit::list)),
    route("GET", "/v1/audit/raw", || get(audit::raw)),
    route("GET", "/v1/audit/checkpoint", || get(audit::checkpoint)),
    route("GET", "/v1/audit/consistency", || get(audit::consistency)),
    route("POST", "/v1/freeze", || post(stopping::freeze)),
    route("POST", "/v1/unfreeze", || post(stopping::unfreeze)),
    route("POST", "/v1/rearm", || post(stopping::rearm)),
    route("POST", "/v1/backups", || post(stopping::backup)),
    route("POST", "/v1/kek/rotate", || post(stopping::rotate_kek)),
    route("GET", "/v1/people", || get(people::list)),
    route("POST", "/v1/people", || post(people::enrol)),
    route("POST", "/v1/people/{name}/retire", || post(people::retire)),
    route("POST", "/v1/people/{name}/tokens", || post(people::issue_token)),
    route("POST", "/v1/people/{name}/tokens/revoke", || post(people::revoke_token)),
];

pub(super) fn router() -> Router<Api> {
    ROUTES.iter().fold(Router::new(), |router, route| {
        router.route(route.path, (route.handler)())
    })
}

/// Method and path of every route that needs a token; `{…}` stands for one segment.
pub fn paths() -> impl Iterator<Item = (&'static str, &'static str)> {
    ROUTES.iter().map(|route| (route.method, route.path))
}
