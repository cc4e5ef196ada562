//! The HTTP API: a thin skin over the use cases. It turns requests into calls and views into answers, and knows neither store nor engine.
//!
//! Every route stands in one table (`routes::ROUTES`), so that none can be forgotten by the router, by the check of tokens or by a test.

mod auth;
mod health;
mod page;
mod problem;
mod routes;
mod server;
mod sse;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRef, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use keyfall_sdk::BoxFuture;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::set_header::SetResponseHeaderLayer;

use crate::app::App;

pub use routes::paths;
pub use server::{Listening, ServeError, TlsFiles, serve};

/// Manifests are the largest bodies; a file of them is refused above 8 MiB by the use case.
const LARGEST_BODY: usize = 32 * 1024 * 1024;

/// What is asked without a token: whether this server can work.
pub trait Vitals: Send + Sync {
    /// Each thing that must be well, with what is wrong with it. Nothing in it names a secret or an identity.
    fn readiness(&self) -> BoxFuture<'_, Vec<(&'static str, Result<(), String>)>>;

    /// Brings the gauges up to date before they are read.
    fn refresh_gauges(&self) -> BoxFuture<'_, ()>;
}

/// What every route works with.
#[derive(Clone)]
pub struct Api {
    app: Arc<App>,
    vitals: Arc<dyn Vitals>,
    metrics: PrometheusHandle,
    /// Ends event streams when the server is asked to stop.
    stopping: CancellationToken,
    /// A place for each open event stream.
    watchers: Arc<Semaphore>,
}

impl Api {
    pub fn new(app: App, vitals: Arc<dyn Vitals>, metrics: PrometheusHandle, stopping: CancellationToken) -> Self {
        Self {
            app: Arc::new(app),
            vitals,
            metrics,
            stopping,
            watchers: Arc::new(Semaphore::new(sse::MOST_WATCHERS)),
        }
    }
}

impl FromRef<Api> for Arc<App> {
    fn from_ref(api: &Api) -> Self {
        Self::clone(&api.app)
    }
}

/// The whole API with everything that holds for every request.
pub fn router(api: Api) -> Router {
    let v1 = routes::router()
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .route_layer(middleware::from_fn_with_state(api.clone(), auth::require_caller))
        .fallback(problem::no_such_route)
        .method_not_allowed_fallback(problem::wrong_method);
    let no_store = SetResponseHeaderLayer::overriding(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let no_sniff = SetResponseHeaderLayer::overriding(
        HeaderName::from_static("x-content-type-options"),
        HeaderValue::from_static("nosniff"),
    );
    Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .merge(v1)
        .with_state(api)
        .layer(CatchPanicLayer::custom(problem::panicked))
        .layer(middleware::from_fn(observe))
        .layer(no_store)
        .layer(no_sniff)
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
}

/// The methods that are counted by name. A request may carry any word as its method, and a name that is counted is kept for ever.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "other",
    }
}

/// One line and two figures for each request: the route's template, never its names, headers or bodies.
async fn observe(request: Request, next: Next) -> Response {
    let began = tokio::time::Instant::now();
    let method = known(request.method());
    let route = request
        .extensions()
        .get::<axum::extract::MatchedPath>()
        .map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let id = request
        .headers()
        .get("x-request-id")
        .and_then(|id| id.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let response = next.run(request).await;
    let took = began.elapsed();
    let status = response.status().as_u16();
    metrics::counter!("keyfall_http_requests_total", "route" => route.clone(), "method" => method, "status" => status.to_string())
        .increment(1);
    metrics::histogram!("keyfall_http_request_seconds", "route" => route.clone()).record(took.as_secs_f64());
    tracing::debug!(
        request.id = id,
        http.method = method,
        http.route = route,
        http.status = status,
        duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        "answered"
    );
    response
}

/// How long requests under way may take when the server stops.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// For handlers that need more than the use cases.
type ApiState = State<Api>;
