//! Workers, as JSON and as text.

use kahn_client::{Pressure, Worker};
use kahn_model::{Admission, PressureKind, Resources, Share};
use kahn_runtime::clock;
use serde_json::{Value, json};

use super::table::table;
use super::text;

/// Formats a worker as JSON; the fields are stable.
pub(crate) fn worker_json(worker: &Worker) -> Value {
    let time = |at: kahn_model::Timestamp| clock::format_micros(at.0);
    let percent = |permille: u32| json!(f64::from(permille) / 10.0);
    let pressure = worker.pressure.as_ref().map(|pressure| {
        json!({
            "kind": pressure.kind,
            "measured_percent": percent(pressure.measured_permille),
            "limit_percent": percent(pressure.limit_permille),
        })
    });
    json!({
        "worker": worker.name,
        "status": worker.status,
        "is_cordoned": worker.is_cordoned,
        "is_draining": worker.is_draining,
        "capacity": worker.capacity,
        "used": worker.used,
        "labels": worker.labels,
        "executors": worker.executors,
        "leases": worker.leases,
        "leases_ahead": worker.leases_ahead,
        "heard_at": worker.heard_at.map(time),
        "accepts": {
            "percent": percent(worker.accepts_permille),
            "pressure": pressure,
            "since": worker.throttled_since.map(time),
        },
    })
}

/// Formats workers as a table.
pub(crate) fn workers(workers: &[Worker]) -> String {
    let rows = workers.iter().map(|worker| {
        let mut status = text::safe(&worker.status);
        for (is_so, word) in [(worker.is_cordoned, "cordoned"), (worker.is_draining, "draining")] {
            if is_so {
                status.push_str(&format!(", {word}"));
            }
        }
        [
            text::safe(&worker.name),
            status,
            amounts(&worker.capacity),
            amounts(&worker.used),
            accepts(worker),
            format!("{} ({} ahead)", worker.leases, worker.leases_ahead),
            text::labels(&worker.labels),
        ]
    });
    let head = ["WORKER", "STATUS", "CAPACITY", "USED", "ACCEPTS", "LEASES", "LABELS"];
    table(head, rows.collect())
}

/// Formats the accepted share: `60% (memory pressure 23% > 10%) since 2026-01-01 00:00:00Z`.
fn accepts(worker: &Worker) -> String {
    let share = Share::from_permille(worker.accepts_permille).unwrap_or_default();
    let pressure = worker.pressure.as_ref().and_then(known);
    let mut out = Admission { share, pressure, ..Admission::default() }.to_string();
    if let Some(since) = worker.throttled_since {
        out.push_str(&format!(" since {}", text::time(since)));
    }
    out
}

/// Converts the pressure, if this version knows its kind.
fn known(pressure: &Pressure) -> Option<kahn_model::Pressure> {
    let kind = PressureKind::ALL.into_iter().find(|kind| kind.as_str() == pressure.kind)?;
    let (measured, limit) = (pressure.measured_permille, pressure.limit_permille);
    Some(kahn_model::Pressure { kind, measured, limit })
}

/// Formats resources with readable sizes: `cpu=2 memory=23.5Gi`. Text that cannot be parsed is
/// returned escaped.
fn amounts(written: &str) -> String {
    match written.parse::<Resources>() {
        Ok(resources) => resources.rounded().to_string(),
        Err(_) => text::safe(written),
    }
}

#[cfg(test)]
mod tests {
    use kahn_model::Timestamp;

    use super::*;

    fn worker() -> Worker {
        Worker {
            name: "w-1".into(),
            status: "attached".into(),
            is_cordoned: true,
            is_draining: false,
            capacity: "cpu=2 memory=24610636Ki gpu=1".into(),
            used: "cpu=1 memory=512Mi".into(),
            labels: [("zone".to_owned(), "eu".to_owned()), ("f/double".to_owned(), String::new())]
                .into(),
            executors: vec!["process".into()],
            leases: 2,
            leases_ahead: 1,
            heard_at: None,
            accepts_permille: 600,
            pressure: Some(Pressure {
                kind: "memory".into(),
                measured_permille: 234,
                limit_permille: 100,
            }),
            throttled_since: Some(Timestamp(1_767_225_600_000_000)),
        }
    }

    fn cells(worker: &Worker) -> Vec<String> {
        let text = workers(std::slice::from_ref(worker));
        let row = text.lines().nth(1).unwrap_or_default();
        row.split("  ").map(str::trim).filter(|c| !c.is_empty()).map(str::to_owned).collect()
    }

    #[test]
    fn a_worker_under_pressure_shows_what_it_accepts_and_why_and_since_when() {
        assert_eq!(
            cells(&worker()),
            [
                "w-1",
                "attached, cordoned",
                "cpu=2 memory=23.4Gi gpu=1",
                "cpu=1 memory=512Mi",
                "60% (memory pressure 23.4% > 10%) since 2026-01-01 00:00:00Z",
                "2 (1 ahead)",
                "f/double zone=eu",
            ]
        );
        let json = worker_json(&worker());
        assert_eq!(
            json["accepts"],
            json!({
                "percent": 60.0,
                "pressure": {
                    "kind": "memory", "measured_percent": 23.4, "limit_percent": 10.0
                },
                "since": "2026-01-01T00:00:00.000000Z",
            })
        );
    }

    #[test]
    fn a_worker_without_pressure_accepts_all() {
        let calm =
            Worker { accepts_permille: 1000, pressure: None, throttled_since: None, ..worker() };
        assert_eq!(cells(&calm)[4], "100%");
        let json = worker_json(&calm);
        assert_eq!(json["accepts"], json!({ "percent": 100.0, "pressure": null, "since": null }));
    }

    #[test]
    fn an_amount_that_cannot_be_read_is_shown_as_it_came() {
        assert_eq!(amounts("who knows"), "who knows");
    }
}
