//! Values as they are given in JSON.

use std::time::Duration;

/// Seconds to the microsecond, as all spans of time are given in JSON.
pub(crate) fn seconds(span: Duration) -> f64 {
    let micros = u32::try_from(span.as_micros() % 1_000_000).unwrap_or(0);
    // The quotient is the number nearest to the decimal one, so it is printed with six digits.
    (span.as_secs() as f64 * 1e6 + f64::from(micros)) / 1e6
}

/// The word, unless there is none.
pub(crate) fn word(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// The exit code, signal or HTTP status, for the causes that have one.
pub(crate) fn cause_code(cause: &str, code: i32) -> Option<i32> {
    matches!(cause, "exit_code" | "signal" | "http_status").then_some(code)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn seconds_have_six_digits_at_most() {
        for (micros, text) in [(1_810_547, "1.810547"), (400_000, "0.4"), (0, "0.0")] {
            let value = json!(seconds(Duration::from_micros(micros)));
            assert_eq!(value.to_string(), text);
        }
    }
}
