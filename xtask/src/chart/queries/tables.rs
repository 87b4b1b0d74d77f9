//! The metrics that exist, as `docs/operations.md` lists them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};

use super::promql::Named;

/// Labels that the monitors of the chart give to all metrics of a process. If a metric has a label of
/// the same name, Prometheus puts `exported_` before it.
const OF_TARGET: [&str; 4] = ["namespace", "app_kubernetes_io_instance", "pod", "kahn_pool"];
/// Metrics of others, and what tells their series apart.
const FOREIGN: [(&str, &[&str]); 2] = [
    ("kubelet_volume_stats_available_bytes", &["namespace", "persistentvolumeclaim"]),
    ("kubelet_volume_stats_capacity_bytes", &["namespace", "persistentvolumeclaim"]),
];

/// The metrics that a query can name, with their labels.
#[derive(Debug)]
pub(super) struct Tables(BTreeMap<String, BTreeSet<String>>);

impl Tables {
    /// Reads the tables of metrics of the document.
    ///
    /// # Errors
    ///
    /// Fails if there are none.
    pub(super) fn parse(document: &str) -> Result<Self> {
        let mut metrics: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for line in document.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let [_, name, kind, labels, ..] = cells[..] else { continue };
            let labels = labels.split(", ").map(|label| label.trim_matches('`'));
            let labels = labels.filter(|label| !label.is_empty()).map(exported).collect();
            metrics.extend(series(name.trim_matches('`'), kind, labels));
        }
        ensure!(!metrics.is_empty(), "docs/operations.md has no table of metrics");
        for (name, labels) in FOREIGN {
            metrics.insert(name.into(), labels.iter().map(|&label| label.into()).collect());
        }
        Ok(Self(metrics))
    }

    /// Returns what a query names and does not exist.
    pub(super) fn problems(&self, named: &Named) -> Vec<String> {
        let mut problems = Vec::new();
        let mut groups = BTreeSet::new();
        for (metric, labels) in &named.selected {
            let Some(known) = self.0.get(metric) else {
                problems.push(format!("docs/operations.md has no metric {metric}"));
                continue;
            };
            groups.extend(known.iter().map(String::as_str));
            for label in labels.iter().filter(|label| !known.contains(*label)) {
                problems.push(format!("{metric} has no label {label}"));
            }
        }
        for label in named.grouped.iter().filter(|label| !groups.contains(label.as_str())) {
            problems.push(format!("none of its metrics has the label {label}"));
        }
        for word in named.others.iter().filter(|word| self.0.contains_key(*word)) {
            problems.push(format!("{word} is not limited to a release"));
        }
        problems
    }
}

/// Returns the name of a label in Prometheus.
fn exported(label: &str) -> String {
    if OF_TARGET.contains(&label) { format!("exported_{label}") } else { label.to_owned() }
}

/// Returns the names under which a metric is stored, with all labels.
fn series(name: &str, kind: &str, mut labels: BTreeSet<String>) -> Vec<(String, BTreeSet<String>)> {
    labels.extend(OF_TARGET.map(str::to_owned));
    match kind {
        "counter" | "gauge" => vec![(name.to_owned(), labels)],
        "histogram" => {
            let mut with_bounds = labels.clone();
            with_bounds.insert("le".to_owned());
            vec![
                (format!("{name}_bucket"), with_bounds),
                (format!("{name}_sum"), labels.clone()),
                (format!("{name}_count"), labels),
            ]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::promql;
    use super::*;

    const DOCUMENT: &str = "| Name | Type |\n|---|---|\n\
                            | `kahn_wait_seconds` | histogram | `namespace` | a wait |\n\
                            | `kahn_runs` | gauge | `state`, `kind` | runs |\n\
                            | `worker.key` | 16 MiB | not a metric |\n";

    #[track_caller]
    fn check(query: &str, problems: &[&str]) {
        let tables = Tables::parse(DOCUMENT).unwrap();
        assert_eq!(tables.problems(&promql::parse(query)), problems, "{query}");
    }

    #[test]
    fn a_metric_or_a_label_that_does_not_exist_is_named() {
        check("sum by (state) (kahn_runs{pod=\"a\",kind=\"b\"})", &[]);
        check(
            "kahn_runs_total{} + worker.key{}",
            &[
                "docs/operations.md has no metric kahn_runs_total",
                "docs/operations.md has no metric key",
            ],
        );
        check("kahn_runs{role=\"a\"}", &["kahn_runs has no label role"]);
        check("sum by (role) (kahn_runs{})", &["none of its metrics has the label role"]);
        check("sum(kahn_runs)", &["kahn_runs is not limited to a release"]);
    }

    #[test]
    fn a_histogram_is_asked_by_its_series() {
        check("sum by (le) (rate(kahn_wait_seconds_bucket{}[5m]))", &[]);
        check("kahn_wait_seconds{}", &["docs/operations.md has no metric kahn_wait_seconds"]);
        check("sum by (le) (kahn_wait_seconds_sum{})", &["none of its metrics has the label le"]);
    }

    #[test]
    fn a_label_that_targets_have_too_has_another_name_in_prometheus() {
        check("sum by (exported_namespace) (kahn_wait_seconds_sum{})", &[]);
        check(
            "sum by (exported_pod) (kahn_runs{})",
            &["none of its metrics has the label exported_pod"],
        );
    }
}
