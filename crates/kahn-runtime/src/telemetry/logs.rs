//! Log lines: text for people, JSON for machines.

use std::io::{self, IsTerminal};

use serde::{Deserialize, Serialize};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use super::TelemetryError;

/// The variable that overrides the log filter of the configuration.
pub const LOG_VARIABLE: &str = "KAHN_LOG";

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One human-readable line per event.
    #[default]
    Text,
    /// One JSON object per line, fields at the top level.
    Json,
}

/// Returns whether stderr supports colours.
pub(super) fn colours() -> bool {
    let no_color = crate::config::Environment::from_process().get("NO_COLOR").is_some();
    io::stderr().is_terminal() && !no_color
}

/// Creates a subscriber without installing it, for tests and for writers other than stderr.
///
/// # Errors
///
/// Returns [`TelemetryError::Filter`] for an invalid filter.
pub fn subscriber<W>(
    format: LogFormat,
    filter: &str,
    colours: bool,
    writer: W,
) -> Result<impl tracing::Subscriber + Send + Sync + 'static, TelemetryError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(filter)
        .map_err(|source| TelemetryError::Filter { filter: filter.to_owned(), source })?;
    let lines = fmt::layer().with_writer(writer);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Text => lines.with_ansi(colours).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    Ok(Registry::default().with(lines.with_filter(filter)))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, filter: &str, log: impl FnOnce()) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber = subscriber(format, filter, false, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, log);
        let bytes = buffer.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_lines_have_their_fields_at_the_top_level() {
        let line = logged(LogFormat::Json, "info", || {
            tracing::info!(worker = "w-1", slots = 4, "attached");
        });
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["message"], "attached");
        assert_eq!((line["worker"].as_str(), line["slots"].as_u64()), (Some("w-1"), Some(4)));
        assert_eq!(line["level"], "INFO");
    }

    #[test]
    fn text_lines_have_their_fields_and_no_colours() {
        let line = logged(LogFormat::Text, "info", || tracing::warn!(worker = "w-1", "lost"));
        assert!(line.contains("WARN") && line.contains("lost worker=\"w-1\""), "{line}");
        assert!(!line.contains('\u{1b}'), "{line}");
    }

    #[test]
    fn the_filter_selects_by_level_and_target() {
        let text = logged(LogFormat::Text, "warn,kahn_runtime=debug", || {
            tracing::debug!("ours");
            tracing::info!(target: "h2", "theirs");
        });
        assert!(text.contains("ours") && !text.contains("theirs"), "{text}");
    }

    #[test]
    fn an_invalid_filter_is_named_in_the_error() {
        let refused = subscriber(LogFormat::Text, "info,kahn=loud", false, io::sink).err().unwrap();
        assert!(refused.to_string().contains("info,kahn=loud"), "{refused}");
    }
}
