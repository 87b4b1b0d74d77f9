//! Tests of what is exposed, and of the limits of labels.

use std::sync::Arc;

use kahn_core::testing::{World, dag, exit_code};
use kahn_core::{Event, RetryScope};
use kahn_model::{Dag, Outputs};
use kahn_runtime::metrics::Format;

use super::*;

struct Case {
    metrics: Metrics,
    stats: Stats,
    world: World,
    n_counted: usize,
}

impl Case {
    fn new(config: &MetricsConfig) -> Self {
        let metrics = Metrics::new();
        let stats = Stats::new(&metrics, Readiness::new(), config);
        Self { metrics, stats, world: World::new(), n_counted: 0 }
    }

    /// Records everything that happened in the world, and returns the metrics as text.
    fn text(&mut self) -> String {
        for (_, change) in &self.world.log[self.n_counted..] {
            self.stats.counters.count(change);
        }
        self.n_counted = self.world.log.len();
        for timing in std::mem::take(&mut self.world.timings) {
            self.stats.times.observe(&timing, self.world.core.state());
        }
        self.stats.gauges.observe(&self.world.core, 0);
        self.metrics.to_text(Format::Prometheus)
    }
}

#[track_caller]
fn assert_has(text: &str, line: &str) {
    assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
}

fn one() -> Arc<Dag> {
    dag().task("a").build()
}

#[test]
fn the_queue_wait_is_shown_for_so_many_namespaces_and_the_rest_together() {
    let mut case = Case::new(&MetricsConfig::default());
    for n in 0..times::NAMESPACES_MAX + 2 {
        case.world.submit_for(&format!("team-{n:03}"), &one());
    }
    case.world.wait(Duration::from_secs(2));
    case.world.attach("w", "cpu=1");
    let text = case.text();
    let counts = text.lines().filter(|line| line.starts_with("kahn_queue_wait_seconds_count"));
    assert_eq!(counts.count(), times::NAMESPACES_MAX + 1);
    assert_has(&text, "kahn_queue_wait_seconds_count{namespace=\"other\"} 2");
    assert_has(&text, "kahn_queue_wait_seconds_count{namespace=\"team-007\"} 1");
    assert_has(&text, "kahn_queue_wait_seconds_bucket{le=\"1.0\",namespace=\"team-007\"} 0");
    assert_has(&text, "kahn_queue_wait_seconds_bucket{le=\"2.5\",namespace=\"team-007\"} 1");
}

#[test]
fn names_are_left_out_if_the_operator_says_so() {
    let mut case = Case::new(&MetricsConfig { namespaces: false, labels: false });
    case.world.attach("w", "cpu=1");
    case.world.submit_for("team", &one());
    case.world.submit_for("team", &dag().task("a").on("zone", "moon").build());
    let text = case.text();
    assert!(!text.contains("team") && !text.contains("moon"), "{text}");
    assert_has(&text, "kahn_queue_wait_seconds_count{namespace=\"other\"} 1");
    assert_has(&text, "kahn_demand_tasks{executor=\"builtin\",labels=\"\"} 1");
}

#[test]
fn the_demand_of_a_shape_is_shown_until_it_ends() {
    let mut case = Case::new(&MetricsConfig::default());
    let tasks = dag().task("a").on("zone", "eu").resources("cpu=1.5 memory=1Gi gpu=1");
    let tasks = tasks.having("disk").task("b").on("zone", "eu").having("disk").resources("cpu=1");
    case.world.submit(&tasks.build());
    let text = case.text();
    let shape = "{executor=\"builtin\",labels=\"disk,zone=eu\"}";
    assert_has(&text, &format!("kahn_demand_tasks{shape} 2"));
    assert_has(&text, &format!("kahn_demand_cpu_cores{shape} 2.5"));
    assert_has(&text, &format!("kahn_demand_memory_bytes{shape} 1073741824"));
    assert_has(&text, &format!("kahn_demand_gpus{shape} 1.0"));
    let labels = [("zone", "eu"), ("disk", "")];
    case.world.attach_with("w", "cpu=4,memory=2Gi,gpu=1", &labels, 10);
    let text = case.text();
    assert_has(&text, &format!("kahn_demand_tasks{shape} 0"));
    assert_has(&text, &format!("kahn_demand_cpu_cores{shape} 0.0"));
    assert_has(&text, "kahn_leases{phase=\"placed\"} 2");
    assert_has(&text, "kahn_workers{state=\"attached\"} 1");
    assert_has(&text, "kahn_runs{state=\"active\"} 1");
}

#[test]
fn so_many_shapes_are_told_apart_and_idle_ones_make_room() {
    let mut case = Case::new(&MetricsConfig::default());
    let submit =
        |case: &mut Case, zone: &str| case.world.submit(&dag().task("a").on("zone", zone).build());
    let first = submit(&mut case, "first");
    case.text();
    let cancelled = Event::CancelRequested { run: first, reason: "".into() };
    case.world.accept(cancelled);
    for n in 0..demand::SHAPES_MAX + 3 {
        submit(&mut case, &format!("zone-{n:02}"));
    }
    let text = case.text();
    let shapes = text.lines().filter(|line| line.starts_with("kahn_demand_tasks{"));
    assert_eq!(shapes.count(), demand::SHAPES_MAX + 1);
    assert!(!text.contains("first"), "{text}");
    assert_has(&text, "kahn_demand_tasks{executor=\"other\",labels=\"other\"} 3");
    assert_has(&text, "kahn_demand_tasks{executor=\"builtin\",labels=\"zone=zone-00\"} 1");
}

#[test]
fn attempts_retries_and_failed_tasks_are_counted_by_cause() {
    let mut case = Case::new(&MetricsConfig::default());
    case.world.attach("w", "cpu=1");
    let run = case.world.submit(&dag().task("a").attempts(2, Duration::ZERO).build());
    for _ in 0..2 {
        let attempt = case.world.held("w", run, "a").unwrap();
        case.world.finish("w", attempt, Err(exit_code(7)));
    }
    case.world.accept(Event::RetryRequested { run, scope: RetryScope::Failed });
    let attempt = case.world.held("w", run, "a").unwrap();
    case.world.finish("w", attempt, Ok(Outputs::default()));
    let text = case.text();
    assert_has(&text, "kahn_attempts_total{outcome=\"exit_code\"} 2");
    assert_has(&text, "kahn_attempts_total{outcome=\"succeeded\"} 1");
    assert_has(&text, "kahn_attempts_retried_total{cause=\"exit_code\"} 1");
    assert_has(&text, "kahn_tasks_failed_total{cause=\"exit_code\"} 1");
    assert_has(&text, "kahn_tasks_failed_total{cause=\"worker_lost\"} 0");
    assert_has(&text, "kahn_run_duration_seconds_count{state=\"failed\"} 1");
    assert_has(&text, "kahn_attempt_duration_seconds_count{action=\"builtin\"} 3");
}

#[test]
fn the_gauges_are_updated_once_a_burst_is_over() {
    let mut case = Case::new(&MetricsConfig::default());
    case.stats.observe(&case.world.core, 0);
    assert_eq!(case.stats.due(), None);
    case.world.submit(&one());
    case.stats.observe(&case.world.core, 0);
    let due = case.stats.due().unwrap();
    case.world.wait(due.since(case.world.now));
    case.world.submit(&one());
    case.stats.observe(&case.world.core, 0);
    assert_eq!(case.stats.due(), None);
    assert_has(&case.metrics.to_text(Format::Prometheus), "kahn_tasks_ready 2");
}
