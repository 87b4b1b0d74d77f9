//! Logs to stderr, and finished spans to an OpenTelemetry collector.
//!
//! Logs are `tracing` events as text or JSON. Spans are not taken from `tracing`: the coordinator
//! records one per attempt after the fact, from what it knows, through [`Traces`].

mod logs;
mod traces;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use logs::{LOG_VARIABLE, LogFormat, subscriber};
pub use traces::{AttributeValue, FinishedSpan, SpanStatus, Traces, traceparent};

/// What is logged and traced, and where to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetrySettings {
    /// What is logged, such as `info` or `info,kahn_store=debug`.
    pub log: String,
    /// How log lines look.
    pub log_format: LogFormat,
    /// The collector that takes spans over gRPC, such as `http://127.0.0.1:4317`; none by default.
    pub otlp_endpoint: Option<String>,
    /// How long one export may take.
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
    /// The filter is not one.
    #[error("log filter {filter:?}: {source}")]
    Filter {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Something else in this process already takes the logs.
    #[error("logs are taken already: {0}")]
    Taken(#[from] tracing::subscriber::SetGlobalDefaultError),
    /// The exporter of spans could not be made.
    #[error("span exporter for {endpoint}: {source}")]
    Exporter {
        /// The collector.
        endpoint: String,
        /// Why.
        source: opentelemetry_otlp::ExporterBuildError,
    },
    /// The exporter of spans did not end well; some may be lost.
    #[error("spans may be lost: {0}")]
    Unflushed(String),
}

/// The running telemetry of a process. Call [`Telemetry::shutdown`] at its end.
#[derive(Debug)]
#[must_use = "spans that are still waiting are lost without `shutdown`"]
pub struct Telemetry {
    traces: Traces,
}

impl Telemetry {
    /// Starts logs for the whole process, and spans when a collector is set.
    ///
    /// `service` names the process in spans. `filter`, from a flag or [`LOG_VARIABLE`], covers
    /// the one in the settings.
    ///
    /// # Errors
    ///
    /// Returns a [`TelemetryError`] for a bad filter or endpoint, or when called twice.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime when a collector is set.
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

    /// Where finished spans go.
    #[must_use]
    pub fn traces(&self) -> Traces {
        self.traces.clone()
    }

    /// Sends what is still waiting, for a few seconds at most.
    ///
    /// # Errors
    ///
    /// Returns [`TelemetryError::Unflushed`] when the collector does not take it.
    pub async fn shutdown(self) -> Result<(), TelemetryError> {
        self.traces.shutdown().await
    }
}
