//! Finished spans, sent in batches to an OpenTelemetry collector.
//!
//! Recording never blocks and never fails: spans that do not fit into the queue are dropped and
//! counted by the exporter. Times and ids come from the caller, not from a context.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor,
};

use super::{TelemetryError, TelemetrySettings};

/// Queue length; about 6 MiB.
const QUEUE_SIZE: usize = 16_384;
const BATCH_SIZE: usize = 1_024;
const BATCH_DELAY: Duration = Duration::from_secs(1);
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// The value of a span attribute; converted with `into()` from strings, integers, floats and bools.
#[derive(Clone, Debug, PartialEq)]
pub enum AttributeValue {
    /// A string.
    Text(Cow<'static, str>),
    /// An integer.
    Integer(i64),
    /// A float.
    Float(f64),
    /// A boolean.
    Flag(bool),
}

impl From<&'static str> for AttributeValue {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for AttributeValue {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<i64> for AttributeValue {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<u32> for AttributeValue {
    fn from(number: u32) -> Self {
        Self::Integer(number.into())
    }
}

impl From<f64> for AttributeValue {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

impl From<bool> for AttributeValue {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<AttributeValue> for Value {
    fn from(value: AttributeValue) -> Self {
        match value {
            AttributeValue::Text(text) => Self::String(text.into()),
            AttributeValue::Integer(number) => Self::I64(number),
            AttributeValue::Float(number) => Self::F64(number),
            AttributeValue::Flag(flag) => Self::Bool(flag),
        }
    }
}

/// The status of a span.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SpanStatus {
    /// Unset.
    #[default]
    Unset,
    /// Ok.
    Ok,
    /// Error, with a description.
    Error(String),
}

impl From<SpanStatus> for Status {
    fn from(status: SpanStatus) -> Self {
        match status {
            SpanStatus::Unset => Self::Unset,
            SpanStatus::Ok => Self::Ok,
            SpanStatus::Error(reason) => Self::error(reason),
        }
    }
}

/// A finished span.
#[derive(Clone, Debug, PartialEq)]
pub struct FinishedSpan {
    /// The trace id; must not be all zeros.
    pub trace_id: [u8; 16],
    /// The span id; must not be all zeros.
    pub span_id: [u8; 8],
    /// The parent span, if any.
    pub parent_id: Option<[u8; 8]>,
    /// The name.
    pub name: Cow<'static, str>,
    /// The start time, in microseconds since the Unix epoch.
    pub started_at_micros: u64,
    /// The end time, in microseconds since the Unix epoch.
    pub ended_at_micros: u64,
    /// Attributes.
    pub attributes: Vec<(&'static str, AttributeValue)>,
    /// The status.
    pub status: SpanStatus,
}

/// The sink for finished spans. Clones share it; the default drops every span.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<Arc<Exporting>>);

#[derive(Debug)]
struct Exporting {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
}

impl Traces {
    /// Drops every span.
    #[must_use]
    pub fn off() -> Self {
        Self(None)
    }

    /// Exports spans to the configured collector, or drops them if there is none.
    ///
    /// # Errors
    ///
    /// Returns [`TelemetryError::Exporter`] for an invalid endpoint. An unreachable collector is
    /// not an error.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime if a collector is configured.
    pub fn start(
        service: &'static str,
        settings: &TelemetrySettings,
    ) -> Result<Self, TelemetryError> {
        let Some(endpoint) = &settings.otlp_endpoint else { return Ok(Self::off()) };
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(settings.otlp_timeout)
            .build()
            .map_err(|source| TelemetryError::Exporter { endpoint: endpoint.clone(), source })?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE_SIZE)
            .with_max_export_batch_size(BATCH_SIZE)
            .with_scheduled_delay(BATCH_DELAY)
            .build();
        let mut processor = BatchSpanProcessor::new(exporter, batches);
        let version = env!("CARGO_PKG_VERSION");
        processor.set_resource(
            &Resource::builder()
                .with_service_name(service)
                .with_attribute(KeyValue::new("service.version", version))
                .build(),
        );
        let scope = InstrumentationScope::builder("kahn").with_version(version).build();
        Ok(Self(Some(Arc::new(Exporting { processor, scope }))))
    }

    /// Returns whether spans are exported; if not, they need not be built.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Records one span without blocking. A span without ids is dropped.
    pub fn record(&self, span: FinishedSpan) {
        let has_ids = span.trace_id != [0; 16] && span.span_id != [0; 8];
        if let Some(exporting) = &self.0
            && has_ids
        {
            exporting.processor.on_end(span_data(span, exporting.scope.clone()));
        }
    }

    /// Flushes pending spans, for a few seconds at most. Spans recorded later are dropped.
    ///
    /// # Errors
    ///
    /// Returns [`TelemetryError::Unflushed`] if it takes too long or was called before.
    pub async fn shutdown(&self) -> Result<(), TelemetryError> {
        let Some(exporting) = self.0.clone() else { return Ok(()) };
        // The exporter's thread needs this runtime to make progress while we wait for it.
        let ending = tokio::task::spawn_blocking(move || {
            let flushed = exporting.processor.force_flush();
            exporting.processor.shutdown_with_timeout(SHUTDOWN_TIMEOUT).and(flushed)
        });
        match ending.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(TelemetryError::Unflushed(error.to_string())),
            Err(error) => Err(TelemetryError::Unflushed(error.to_string())),
        }
    }
}

fn span_data(span: FinishedSpan, scope: InstrumentationScope) -> SpanData {
    SpanData {
        span_context: SpanContext::new(
            TraceId::from_bytes(span.trace_id),
            SpanId::from_bytes(span.span_id),
            // A span without ids is not exportable: an unsampled span is dropped.
            TraceFlags::NOT_SAMPLED
                .with_sampled(span.trace_id != [0; 16] && span.span_id != [0; 8]),
            false,
            TraceState::NONE,
        ),
        parent_span_id: span.parent_id.map_or(SpanId::INVALID, SpanId::from_bytes),
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: span.name,
        start_time: system_time(span.started_at_micros),
        end_time: system_time(span.ended_at_micros.max(span.started_at_micros)),
        attributes: span
            .attributes
            .into_iter()
            .map(|(key, value)| KeyValue::new(key, value))
            .collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: span.status.into(),
        instrumentation_scope: scope,
    }
}

fn system_time(unix_micros: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(unix_micros)
}

/// Returns the W3C `traceparent` of a span, for `$TRACEPARENT` and headers; always sampled.
#[must_use]
pub fn traceparent(trace_id: [u8; 16], span_id: [u8; 8]) -> String {
    format!("00-{:032x}-{:016x}-01", u128::from_be_bytes(trace_id), u64::from_be_bytes(span_id))
}

#[cfg(test)]
mod tests;
