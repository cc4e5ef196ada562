//! Logs and metrics of the server. Logs go to standard error; metrics are read at `/metrics` and pushed nowhere.
//!
//! It knows no store and no request. Labels of metrics are kinds and outcomes, never names or ids.

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::config::{LogConfig, LogFormat};

/// Why there is no telemetry.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("log.filter: `{filter}` cannot be read; write a level such as info, or warn,keyfall=debug")]
    Filter {
        filter: String,
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    #[error("the logs were already set up")]
    Logs(#[source] TryInitError),
    #[error("the metrics were already set up")]
    Metrics(#[source] metrics_exporter_prometheus::BuildError),
}

/// Sends the process's logs to standard error.
///
/// # Errors
/// The filter cannot be read, or it was called before.
pub fn start_logs(settings: &LogConfig) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(&settings.filter).map_err(|source| TelemetryError::Filter {
        filter: settings.filter.clone(),
        source,
    })?;
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false);
    match settings.format {
        LogFormat::Text => registry.with(lines.with_ansi(false)).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    }
    .map_err(TelemetryError::Logs)
}

/// Collects the process's metrics, to be rendered by the handle.
///
/// # Errors
/// It was called before.
pub fn start_metrics() -> Result<PrometheusHandle, TelemetryError> {
    let buckets = [0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0];
    PrometheusBuilder::new()
        .set_buckets(&buckets)
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(TelemetryError::Metrics)
}
