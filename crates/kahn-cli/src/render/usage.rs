//! Formats the resource usage of an attempt as JSON and as text.

use kahn_client::Usage;
use serde::Serialize;

use super::json::seconds;
use super::text;

/// The usage of an attempt as JSON; the fields are stable, and null if unknown.
#[derive(Debug, Default, Serialize)]
pub(crate) struct UsageJson {
    cpu_seconds: Option<f64>,
    memory_peak_bytes: Option<u64>,
    read_bytes: Option<u64>,
    written_bytes: Option<u64>,
}

impl UsageJson {
    /// Converts the usage, if known.
    pub(crate) fn of(usage: Option<Usage>) -> Self {
        Self {
            cpu_seconds: usage.map(|usage| seconds(usage.cpu)),
            memory_peak_bytes: usage.and_then(|usage| peak(&usage)),
            read_bytes: usage.map(|usage| usage.read_bytes),
            written_bytes: usage.map(|usage| usage.written_bytes),
        }
    }
}

/// Returns the memory peak, if known.
fn peak(usage: &Usage) -> Option<u64> {
    Some(usage.memory_peak).filter(|bytes| *bytes > 0)
}

/// Formats CPU time, memory, and bytes read and written as table cells.
pub(crate) fn cells(usage: &Usage) -> [String; 3] {
    let io = format!("{}/{}", text::bytes(usage.read_bytes), text::bytes(usage.written_bytes));
    [text::span(usage.cpu), peak(usage).map(text::bytes).unwrap_or_default(), io]
}

/// Formats the usage as text: `cpu 1.2s, memory 64Mi, read 0, wrote 3.0Mi`.
pub(crate) fn words(usage: &Usage) -> String {
    let memory = peak(usage).map(|bytes| format!("memory {}, ", text::bytes(bytes)));
    format!(
        "cpu {}, {}read {}, wrote {}",
        text::span(usage.cpu),
        memory.unwrap_or_default(),
        text::bytes(usage.read_bytes),
        text::bytes(usage.written_bytes)
    )
}
