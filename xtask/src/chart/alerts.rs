//! The alerts raise when they should, as Prometheus itself sees it, and each has a page that says what
//! to do.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value as Json;

use super::helm::Helm;
use super::{Chart, read, rendering};
use crate::process::{say, succeeds};
use crate::workspace::{metadata, root};

/// The program that tests rules, from Prometheus.
pub(super) const PROMTOOL: &str = "promtool";
/// The file of values that creates the alerts.
const VALUES: &str = "ci/monitoring-values.yaml";

/// Returns what is missing beside the alerts: their pages in `docs/runbooks`, and for each a test that
/// it is raised and one that it is not.
pub(super) fn undocumented(chart: &Chart) -> Result<Vec<String>> {
    let alerts = read(&chart.directory.join("monitoring/alerts.yaml"))?;
    let tests = read(&chart.directory.join("monitoring/alerts.test.yaml"))?;
    let pages = root().join("docs/runbooks");
    let pages = fs::read_dir(&pages).with_context(|| pages.display().to_string())?;
    let mut names = Vec::new();
    for page in pages {
        names.push(page?.file_name().to_string_lossy().into_owned());
    }
    Ok(missing(&alerts, &tests, &names))
}

/// Compares alerts with their tests and the names of their pages.
fn missing(alerts: &str, tests: &str, pages: &[String]) -> Vec<String> {
    let alerts: BTreeSet<&str> =
        alerts.lines().filter_map(|line| line.strip_prefix("- alert: ")).collect();
    let mut problems = Vec::new();
    for alert in &alerts {
        if !pages.contains(&format!("{alert}.md")) {
            problems.push(format!("the alert {alert} has no page docs/runbooks/{alert}.md"));
        }
        if !tests.lines().any(|line| line.trim() == format!("alertname: {alert}")) {
            problems.push(format!("no test raises the alert {alert}"));
        }
        if !tests.contains(&format!("alertname: {alert}, exp_alerts: []")) {
            problems.push(format!("no test shows that the alert {alert} is not always raised"));
        }
    }
    for page in pages.iter().filter_map(|page| page.strip_suffix(".md")) {
        if page != "README" && !alerts.contains(page) {
            problems.push(format!("docs/runbooks/{page}.md is about no alert"));
        }
    }
    problems
}

/// Runs the tests of the alerts, and returns what failed.
pub(super) fn check(helm: &Helm, chart: &Chart) -> Result<Option<String>> {
    if !succeeds(PROMTOOL, &["--version"]) {
        say(&format!("NOT RUN: tests of the alerts: install {PROMTOOL}, a part of Prometheus\n"));
        return Ok(None);
    }
    let text = helm.template(&chart.directory, Some(&chart.directory.join(VALUES)))?;
    let objects = rendering::objects(&text)?;
    let rules = rules(&objects).with_context(|| format!("{VALUES} creates no PrometheusRule"))?;
    let directory = metadata()?.target_directory.join("chart");
    fs::create_dir_all(&directory).context("cannot create a directory for rules")?;
    let tests = read(&chart.directory.join("monitoring/alerts.test.yaml"))?;
    // JSON is YAML.
    fs::write(directory.join("rules.json"), rules.to_string()).context("cannot write rules")?;
    fs::write(directory.join("alerts.test.yaml"), tests).context("cannot write tests")?;
    let output = Command::new(PROMTOOL)
        .args(["test", "rules", "alerts.test.yaml"])
        .current_dir(&directory)
        .output()
        .with_context(|| format!("cannot start {PROMTOOL}"))?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    Ok((!output.status.success()).then_some(text))
}

fn rules(objects: &[Json]) -> Option<&Json> {
    let is_rule = |object: &&Json| object.get("kind") == Some(&Json::from("PrometheusRule"));
    objects.iter().find(is_rule)?.get("spec")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_without_a_page_or_a_test_on_either_side_is_named() {
        let alerts = "- alert: A\n- alert: B\n";
        let tests =
            "      - { eval_time: 1m, alertname: A, exp_alerts: [] }\n        alertname: A\n";
        let pages = ["A.md", "C.md", "README.md"].map(str::to_owned);
        assert_eq!(
            missing(alerts, tests, &pages),
            [
                "the alert B has no page docs/runbooks/B.md",
                "no test raises the alert B",
                "no test shows that the alert B is not always raised",
                "docs/runbooks/C.md is about no alert",
            ]
        );
    }
}
