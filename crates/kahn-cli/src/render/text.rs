//! Formats durations, counts and colours, and escapes untrusted text.

use std::collections::BTreeMap;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use kahn_client::Waiting;
use kahn_model::{RunState, TaskState, Timestamp};
use kahn_runtime::clock;

/// Escapes text for a single line of a terminal: replaces control characters, line breaks, and
/// characters that hide or reorder text.
pub(crate) fn safe(text: &str) -> String {
    text.chars().map(|c| if is_plain(c) { c } else { replacement_for(c) }).collect()
}

/// Like [`safe`], but keeps line feeds and tabs.
pub(crate) fn safe_lines(text: &str) -> String {
    let keep = |c| c == '\n' || c == '\t' || is_plain(c);
    text.chars().map(|c| if keep(c) { c } else { replacement_for(c) }).collect()
}

fn is_plain(c: char) -> bool {
    !c.is_control() && !reorders(c)
}

/// Returns whether a character changes the display order of the following text.
fn reorders(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn replacement_for(c: char) -> char {
    if c == '\n' || c == '\t' || c == '\r' { ' ' } else { '?' }
}

/// Formats a duration in about six characters: `350ms`, `1.2s`, `2m 03s`, `1h 02m`.
pub(crate) fn span(span: Duration) -> String {
    let (seconds, millis) = (span.as_secs(), span.subsec_millis());
    match seconds {
        0 if millis == 0 && span.subsec_micros() > 0 => "<1ms".to_owned(),
        0 => format!("{millis}ms"),
        1..60 => format!("{seconds}.{}s", millis / 100),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Formats a number of bytes in about six characters: `512`, `1.5Ki`, `64Mi`, `2.2Gi`.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["Ki", "Mi", "Gi", "Ti", "Pi"];
    let mut size = 1u64;
    let mut unit = "";
    for next in UNITS {
        if bytes / size < 1024 {
            break;
        }
        (size, unit) = (size * 1024, next);
    }
    let (whole, tenth) = (bytes / size, bytes % size * 10 / size);
    match (unit, whole) {
        ("", _) | (_, 10..) => format!("{whole}{unit}"),
        _ => format!("{whole}.{tenth}{unit}"),
    }
}

/// Formats a point in time in UTC, with a resolution of one second.
pub(crate) fn time(at: Timestamp) -> String {
    let text = clock::format_micros(at.0);
    let seconds = text.get(..19).unwrap_or(&text);
    format!("{}Z", seconds.replace('T', " "))
}

/// Returns `part` as an integer percentage of `whole`; 100 only if they are equal.
pub(crate) fn percent(part: u64, whole: u64) -> u64 {
    if whole == 0 {
        return 100;
    }
    let share = u128::from(part.min(whole)) * 100 / u128::from(whole);
    u64::try_from(share).unwrap_or(100)
}

/// Formats counts such as `3 succeeded, 1 failed`, ordered by relevance.
pub(crate) fn counts(tasks: &BTreeMap<TaskState, u32>) -> String {
    const ORDER: [TaskState; 9] = [
        TaskState::Succeeded,
        TaskState::Failed,
        TaskState::Cancelled,
        TaskState::Skipped,
        TaskState::Running,
        TaskState::Leased,
        TaskState::BackingOff,
        TaskState::Ready,
        TaskState::Pending,
    ];
    let some = |state: TaskState| {
        let count = tasks.get(&state).copied().filter(|count| *count > 0)?;
        Some(format!("{count} {}", state.as_str().replace('_', " ")))
    };
    let parts: Vec<String> = ORDER.into_iter().filter_map(some).collect();
    if parts.is_empty() { "no tasks".to_owned() } else { parts.join(", ") }
}

/// Formats a cause with its number, if any: `exit code 3`, `signal 9`, `run timeout`.
pub(crate) fn cause(cause: &str, code: i32) -> String {
    let words = safe(cause).replace('_', " ");
    match cause {
        "exit_code" | "signal" | "http_status" => format!("{words} {code}"),
        _ => words,
    }
}

/// Formats a cause and its message in one line: `exit code 3: no room`. Of a multi-line message,
/// such as a stack trace, only the first line is included; `explain` shows all of it.
pub(crate) fn why(cause: &str, code: i32, message: &str) -> String {
    let (first, rest) = message.trim_end().split_once('\n').unwrap_or((message.trim_end(), ""));
    let more = if rest.is_empty() { "" } else { " ..." };
    match (cause, first) {
        ("", first) => format!("{}{more}", safe(first)),
        (_, "") => self::cause(cause, code),
        (_, first) => format!("{}: {}{more}", self::cause(cause, code), safe(first)),
    }
}

/// Formats a count with its noun: `1 task`, `2 tasks`.
pub(crate) fn plural(count: u64, word: &str) -> String {
    if count == 1 { format!("{count} {word}") } else { format!("{count} {word}s") }
}

/// Formats a wait reason: `2 tasks wait, load first: no worker takes work`.
pub(crate) fn waiting(waiting: &Waiting) -> String {
    let (first, message) = (safe(&waiting.first), safe(&waiting.message));
    match waiting.n_tasks {
        1 => format!("task {first} waits: {message}"),
        n => format!("{n} tasks wait, {first} first: {message}"),
    }
}

fn styled(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// Returns bold text. The output stream removes styles where they are not supported.
pub(crate) fn bold(text: &str) -> String {
    styled(Style::new().bold(), text)
}

/// Returns bold red text.
pub(crate) fn bold_red(text: &str) -> String {
    styled(AnsiColor::Red.on_default().bold(), text)
}

/// Returns dimmed text.
pub(crate) fn dim(text: &str) -> String {
    styled(Style::new().dimmed(), text)
}

/// Returns the coloured name of a run state.
pub(crate) fn run_state(state: RunState) -> String {
    let style = match state {
        RunState::Succeeded => AnsiColor::Green.on_default().bold(),
        RunState::Failed => AnsiColor::Red.on_default().bold(),
        RunState::Cancelled | RunState::Cancelling | RunState::Paused => {
            AnsiColor::Yellow.on_default().bold()
        }
        RunState::Active => AnsiColor::Cyan.on_default().bold(),
    };
    styled(style, state.as_str())
}

/// Returns the coloured name of a task state.
pub(crate) fn task_state(state: TaskState) -> String {
    let style = match state {
        TaskState::Succeeded => AnsiColor::Green.on_default(),
        TaskState::Failed => AnsiColor::Red.on_default(),
        TaskState::Cancelled | TaskState::Skipped | TaskState::BackingOff => {
            AnsiColor::Yellow.on_default()
        }
        TaskState::Running | TaskState::Leased => AnsiColor::Cyan.on_default(),
        TaskState::Ready | TaskState::Pending => Style::new().dimmed(),
    };
    styled(style, state.as_str())
}

/// Formats labels in one line. A label without a value, such as `function/resize`, is shown by name
/// only.
pub(crate) fn labels(labels: &BTreeMap<String, String>) -> String {
    let label = |(name, value): (&String, &String)| match value.as_str() {
        "" => name.clone(),
        value => format!("{name}={value}"),
    };
    safe(&labels.iter().map(label).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_steer_a_terminal() {
        assert_eq!(safe("a\u{1b}[31mb\u{7}\u{9b}2J\u{202e}c"), "a?[31mb??2J?c");
        assert_eq!(safe("one\ntwo\r"), "one two ");
        assert_eq!(safe_lines("one\n\ttwo\u{1b}"), "one\n\ttwo?");
        assert_eq!(safe("größer ✓"), "größer ✓");
    }

    #[test]
    fn spans_are_short() {
        for (micros, text) in [
            (0, "0ms"),
            (1, "<1ms"),
            (350_000, "350ms"),
            (1_290_000, "1.2s"),
            (123_000_000, "2m 03s"),
            (3_725_000_000, "1h 02m"),
            (90_000_000_000, "1d 01h"),
        ] {
            assert_eq!(span(Duration::from_micros(micros)), text);
        }
    }

    #[test]
    fn amounts_of_bytes_are_short() {
        for (amount, text) in [
            (0, "0"),
            (1023, "1023"),
            (1536, "1.5Ki"),
            (64 << 20, "64Mi"),
            ((2 << 30) + (300 << 20), "2.2Gi"),
            (u64::MAX, "16383Pi"),
        ] {
            assert_eq!(bytes(amount), text);
        }
    }

    #[test]
    fn the_last_percent_is_not_given_away() {
        assert_eq!(percent(999, 1000), 99);
        assert_eq!(percent(5, 5), 100);
        assert_eq!(percent(0, 0), 100);
        assert_eq!(percent(u64::MAX - 1, u64::MAX), 99);
    }

    #[test]
    fn counts_begin_with_what_has_ended() {
        let tasks =
            [(TaskState::Pending, 2), (TaskState::BackingOff, 1), (TaskState::Succeeded, 3)];
        assert_eq!(counts(&tasks.into()), "3 succeeded, 1 backing off, 2 pending");
        assert_eq!(counts(&BTreeMap::new()), "no tasks");
    }

    #[test]
    fn causes_carry_their_number_where_they_have_one() {
        assert_eq!(cause("exit_code", 3), "exit code 3");
        assert_eq!(cause("run_timeout", 0), "run timeout");
        assert_eq!(why("http_status", 404, "of /a"), "http status 404: of /a");
        assert_eq!(why("exception", 0, "ValueError: a\n  trace\n"), "exception: ValueError: a ...");
        assert_eq!(why("", 0, "a\tb\n"), "a b");
    }

    #[test]
    fn times_are_shown_to_the_second() {
        assert_eq!(time(Timestamp(1_767_225_600_999_999)), "2026-01-01 00:00:00Z");
    }

    #[test]
    fn a_label_without_a_value_is_its_name() {
        let given = [("secret/token", ""), ("zone", "eu")].map(|(k, v)| (k.into(), v.into()));
        assert_eq!(labels(&BTreeMap::from(given)), "secret/token zone=eu");
    }
}
