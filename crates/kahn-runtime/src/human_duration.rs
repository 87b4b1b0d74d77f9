//! Durations in human-readable form: `500ms`, `15s`, `1h 30m`.
//!
//! For `#[serde(with = "kahn_runtime::human_duration")]` on a [`Duration`]. A number without a unit
//! is refused as ambiguous.

use std::time::Duration;

use jiff::SignedDuration;
use jiff::fmt::friendly::{Designator, SpanPrinter};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serializer};

/// Formats a duration as `1h 30m`.
///
/// # Errors
///
/// Returns only errors of the serializer.
pub fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*span))
}

/// Parses a duration such as `15s`.
///
/// # Errors
///
/// Returns an error for a number without a unit, a negative duration, and any other text.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// Formats a duration as `1h 30m`.
#[must_use]
pub fn format(span: Duration) -> String {
    SpanPrinter::new().designator(Designator::Compact).unsigned_duration_to_string(&span)
}

/// Parses a duration such as `15s`.
///
/// # Errors
///
/// Returns a message that quotes the text and says what is wrong.
pub fn parse(text: &str) -> Result<Duration, String> {
    let refuse = || format!("{text:?} is not a span of time such as 500ms, 15s or 1h 30m");
    let span: SignedDuration = text.parse().map_err(|_| refuse())?;
    Duration::try_from(span).map_err(|_| refuse())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_formatted_as_they_are_parsed() {
        for text in ["500ms", "15s", "1h 30m"] {
            assert_eq!(format(parse(text).unwrap()), text);
        }
        assert_eq!(parse("1h30m").unwrap(), Duration::from_secs(5_400));
        assert_eq!(parse(&format(Duration::ZERO)).unwrap(), Duration::ZERO);
    }

    #[test]
    fn bare_numbers_and_negative_durations_are_refused() {
        for text in ["15", "-15s", "soon", ""] {
            assert!(parse(text).unwrap_err().contains(&format!("{text:?}")));
        }
    }
}
