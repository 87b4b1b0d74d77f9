//! The alerts raise when they should, as Prometheus itself sees it.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value as Json;

use super::helm::Helm;
use super::{Chart, read, rendering};
use crate::process::{say, succeeds};
use crate::workspace::metadata;

/// The program that tests rules, from Prometheus.
const PROMTOOL: &str = "promtool";
/// The file of values that creates the alerts.
const VALUES: &str = "ci/monitoring-values.yaml";

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
