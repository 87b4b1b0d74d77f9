//! What an attempt used, as JSON and as text.

use kahn_client::Usage;
use serde::Serialize;

use super::json::seconds;
use super::text;

/// The fields for what an attempt used; stable, and null where it is not known.
#[derive(Debug, Default, Serialize)]
pub(crate) struct UsageJson {
    cpu_seconds: Option<f64>,
    memory_peak_bytes: Option<u64>,
    read_bytes: Option<u64>,
    written_bytes: Option<u64>,
}

impl UsageJson {
    /// What is known.
    pub(crate) fn of(usage: Option<Usage>) -> Self {
        Self {
            cpu_seconds: usage.map(|usage| seconds(usage.cpu)),
            memory_peak_bytes: usage.and_then(|usage| peak(&usage)),
            read_bytes: usage.map(|usage| usage.read_bytes),
            written_bytes: usage.map(|usage| usage.written_bytes),
        }
    }
}

/// The peak of its memory, if that is known.
fn peak(usage: &Usage) -> Option<u64> {
    Some(usage.memory_peak).filter(|bytes| *bytes > 0)
}

/// Processor time, memory, and what was read and written.
pub(crate) fn cells(usage: &Usage) -> [String; 3] {
    let io = format!("{}/{}", text::bytes(usage.read_bytes), text::bytes(usage.written_bytes));
    [text::span(usage.cpu), peak(usage).map(text::bytes).unwrap_or_default(), io]
}

/// The same in words: `cpu 1.2s, memory 64Mi, read 0, wrote 3.0Mi`.
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
