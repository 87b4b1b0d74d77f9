//! Human-readable durations: `1h30m`, `500ms`, `1.5s`, or plain seconds.

use std::time::Duration;

use kahn_model::limits;

const UNITS: [(&str, u64); 6] = [
    ("us", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("m", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
];

/// Parses a duration. The error message quotes the input and describes the expected format.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("`{text}` is not a duration; write for example `1h30m`, `500ms` or `10`");
    let micros = micros(text.trim()).ok_or_else(wrong)?;
    let length = u64::try_from(micros).map(Duration::from_micros).unwrap_or(Duration::MAX);
    if length > limits::SPAN_MAX {
        let days = limits::SPAN_MAX.as_secs() / 86_400;
        return Err(format!("`{text}` is longer than {days} days, the maximum"));
    }
    Ok(length)
}

fn micros(text: &str) -> Option<u128> {
    let mut rest = text;
    let mut total: u128 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(end);
        let unit_end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        // A unit may be omitted only if the input is a single number.
        let unit = if unit.is_empty() && number.len() == text.len() { "s" } else { unit };
        let (_, scale) = UNITS.iter().find(|(word, _)| *word == unit)?;
        total = total.checked_add(scaled(number, *scale)?)?;
        rest = tail;
    }
    Some(total)
}

/// Computes `digits[.digits]` times `scale` exactly, and truncates the fraction.
fn scaled(number: &str, scale: u64) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let is_digits = |s: &str| !s.is_empty() && s.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let fraction = &fraction[..fraction.len().min(18)];
    let tens = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let part = fraction.parse::<u128>().ok()? * u128::from(scale) / tens;
    whole.parse::<u128>().ok()?.checked_mul(u128::from(scale))?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_notations_are_read_exactly() {
        for (text, millis) in [
            ("1h30m", 5_400_000),
            ("500ms", 500),
            ("10s", 10_000),
            ("10", 10_000),
            ("0.25", 250),
            ("1.5s", 1_500),
            ("2d", 172_800_000),
            ("0", 0),
            ("1m30s500ms", 90_500),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "1x", "h", "-1s", "1e3", "1h30", "1.s", "99999999999999999999999d", "400d"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
