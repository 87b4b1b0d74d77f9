//! Logs to stderr, and finished spans to an OpenTelemetry collector.
//!
//! Logs are `tracing` events as text or JSON. Spans do not come from `tracing`: the coordinator
//! records one per attempt after it has ended, through [`Traces`].

mod logs;
mod traces;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use logs::{LOG_VARIABLE, LogFormat, subscriber};
pub use traces::{AttributeValue, FinishedSpan, SpanStatus, Traces, traceparent};

/// Settings for logs and traces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetrySettings {
    /// The log filter, such as `info` or `info,kahn_store=debug`.
    pub log: String,
    /// The format of log lines.
    pub log_format: LogFormat,
    /// The collector that receives spans over gRPC, such as `http://127.0.0.1:4317`; default: none.
    pub otlp_endpoint: Option<String>,
    /// Timeout of one export.
    #[serde(with = "crate::human_duration")]
    pub otlp_timeout: Duration,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self {
            log: "info".to_owned(),
            log_format: LogFormat::Text,
            otlp_endpoint: None,
            otlp_timeout: Duration::from_secs(5),
        }
    }
}

/// Why telemetry could not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is invalid.
    #[error("log filter {filter:?}: {source}")]
    Filter {
        /// The filter.
        filter: String,
        /// The parse error.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Another subscriber is already installed in this process.
    #[error("a log subscriber is already installed: {0}")]
    Taken(#[from] tracing::subscriber::SetGlobalDefaultError),
    /// The span exporter could not be created.
    #[error("span exporter for {endpoint}: {source}")]
    Exporter {
        /// The collector.
        endpoint: String,
        /// The reason.
        source: opentelemetry_otlp::ExporterBuildError,
    },
    /// The span exporter did not shut down cleanly; spans may be lost.
    #[error("spans may be lost: {0}")]
    Unflushed(String),
}

/// The telemetry of a running process. Call [`Telemetry::shutdown`] before it exits.
#[derive(Debug)]
#[must_use = "spans that are still waiting are lost without `shutdown`"]
pub struct Telemetry {
    traces: Traces,
}

impl Telemetry {
    /// Starts logging for the whole process, and span export if a collector is configured.
    ///
    /// `service` names the process in spans. `filter`, from a flag or [`LOG_VARIABLE`], overrides
    /// the one in the settings.
    ///
    /// # Errors
    ///
    /// Returns a [`TelemetryError`] for an invalid filter or endpoint, or if called twice.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime if a collector is configured.
    pub fn start(
        service: &'static str,
        settings: &TelemetrySettings,
        filter: Option<&str>,
    ) -> Result<Self, TelemetryError> {
        let filter = filter.unwrap_or(&settings.log);
        let subscriber = subscriber(settings.log_format, filter, logs::colours(), std::io::stderr)?;
        let traces = Traces::start(service, settings)?;
        tracing::subscriber::set_global_default(subscriber)?;
        Ok(Self { traces })
    }

    /// Returns the sink for finished spans.
    #[must_use]
    pub fn traces(&self) -> Traces {
        self.traces.clone()
    }

    /// Flushes pending spans, for a few seconds at most.
    ///
    /// # Errors
    ///
    /// Returns [`TelemetryError::Unflushed`] if the collector does not accept them.
    pub async fn shutdown(self) -> Result<(), TelemetryError> {
        self.traces.shutdown().await
    }
}
