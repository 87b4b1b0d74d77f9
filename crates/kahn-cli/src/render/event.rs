//! Events of a run, as JSON lines and as text.

use kahn_client::Event;
use kahn_runtime::clock;
use serde::Serialize;

use super::json::{cause_code, seconds, word};
use super::text;
use super::usage::{self, UsageJson};

/// An event as JSON; the fields are stable, and null if not applicable.
#[derive(Debug, Serialize)]
pub(crate) struct EventJson<'a> {
    seq: u64,
    time: String,
    r#type: &'a str,
    run: String,
    task: Option<&'a str>,
    attempt: Option<u32>,
    worker: Option<&'a str>,
    cause: Option<&'a str>,
    cause_code: Option<i32>,
    message: Option<&'a str>,
    /// Only for the end of an attempt, as measured by its worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    elapsed_seconds: Option<f64>,
    /// Only for the end of an attempt with known usage.
    #[serde(flatten)]
    usage: Option<UsageJson>,
}

impl<'a> EventJson<'a> {
    /// Converts an event.
    pub(crate) fn of(event: &'a Event) -> Self {
        Self {
            seq: event.seq,
            time: clock::format_micros(event.at.0),
            r#type: &event.kind,
            run: event.run.to_string(),
            task: word(&event.task),
            attempt: Some(event.attempt).filter(|attempt| *attempt > 0),
            worker: word(&event.worker),
            cause: word(&event.cause),
            cause_code: cause_code(&event.cause, event.cause_code),
            message: word(&event.message),
            elapsed_seconds: event.elapsed.map(seconds),
            usage: event.usage.map(|usage| UsageJson::of(Some(usage))),
        }
    }
}

/// Formats an event as a line of text, without a line feed.
pub(crate) fn line(event: &Event) -> String {
    let time = clock::format_micros(event.at.0);
    let mut out = format!("{time}  {:<14}", text::safe(&event.kind).replace('_', " "));
    if !event.task.is_empty() {
        out.push_str(&format!("  {}", text::safe(&event.task)));
    }
    if event.attempt > 1 {
        out.push_str(&format!(" (attempt {})", event.attempt));
    }
    if !event.worker.is_empty() {
        out.push_str(&format!(" on {}", text::safe(&event.worker)));
    }
    if !event.cause.is_empty() {
        out.truncate(out.trim_end().len());
        out.push_str(&format!(": {}", text::why(&event.cause, event.cause_code, &event.message)));
    }
    let elapsed = event.elapsed.map(|elapsed| format!("took {}", text::span(elapsed)));
    let spent = elapsed.into_iter().chain(event.usage.as_ref().map(usage::words));
    let spent = spent.collect::<Vec<_>>().join(", ");
    if !spent.is_empty() {
        out.push_str(&format!(" ({spent})"));
    }
    out.truncate(out.trim_end().len());
    out
}

#[cfg(test)]
pub(crate) mod tests {
    use kahn_model::{RunId, Timestamp, Uuid};

    use super::*;

    /// Creates an event of run 1, `micros` microseconds after the start of 2026.
    pub(crate) fn event(seq: u64, micros: u64, kind: &str, task: &str) -> Event {
        Event {
            seq,
            at: Timestamp(1_767_225_600_000_000 + micros),
            kind: kind.to_owned(),
            run: RunId::new(Uuid::from_u128(1)),
            task: task.to_owned(),
            attempt: u32::from(!task.is_empty()),
            worker: String::new(),
            cause: String::new(),
            cause_code: 0,
            elapsed: None,
            usage: None,
            message: String::new(),
        }
    }

    #[test]
    fn an_event_is_one_object_with_stable_fields() {
        let failed = Event {
            worker: "w-1".into(),
            cause: "exit_code".into(),
            cause_code: 3,
            message: "no\nroom".into(),
            ..event(7, 1, "task_failed", "load")
        };
        assert_eq!(
            serde_json::to_string(&EventJson::of(&failed)).unwrap(),
            "{\"seq\":7,\"time\":\"2026-01-01T00:00:00.000001Z\",\"type\":\"task_failed\",\
             \"run\":\"00000000-0000-0000-0000-000000000001\",\"task\":\"load\",\"attempt\":1,\
             \"worker\":\"w-1\",\"cause\":\"exit_code\",\"cause_code\":3,\"message\":\"no\\nroom\"}"
        );
        assert_eq!(
            serde_json::to_string(&EventJson::of(&event(1, 0, "run_submitted", ""))).unwrap(),
            "{\"seq\":1,\"time\":\"2026-01-01T00:00:00.000000Z\",\"type\":\"run_submitted\",\
             \"run\":\"00000000-0000-0000-0000-000000000001\",\"task\":null,\"attempt\":null,\
             \"worker\":null,\"cause\":null,\"cause_code\":null,\"message\":null}"
        );
    }

    #[test]
    fn the_end_of_an_attempt_tells_what_it_used() {
        let usage = kahn_client::Usage { memory_peak: 64 << 20, ..Default::default() };
        let elapsed = Some(std::time::Duration::from_millis(250));
        let ended = Event { elapsed, usage: Some(usage), ..event(1, 0, "task_retried", "a") };
        assert!(line(&ended).ends_with("a (took 250ms, cpu 0ms, memory 64Mi, read 0, wrote 0)"));
        let value = serde_json::to_value(EventJson::of(&ended)).unwrap();
        assert_eq!(value["memory_peak_bytes"], 64 << 20);
        assert_eq!(value["elapsed_seconds"], 0.25);
    }

    #[test]
    fn an_event_is_one_line_of_text() {
        let failed = Event {
            worker: "w-1".into(),
            cause: "exit_code".into(),
            cause_code: 3,
            message: "no room".into(),
            attempt: 2,
            ..event(7, 1, "task_failed", "lo\u{1b}ad")
        };
        assert_eq!(
            line(&failed),
            "2026-01-01T00:00:00.000001Z  task failed     lo?ad (attempt 2) on w-1: exit code 3: no room"
        );
        assert_eq!(
            line(&event(1, 0, "run_submitted", "")),
            "2026-01-01T00:00:00.000000Z  run submitted"
        );
    }
}
