//! Alerts and dashboards use metrics that exist, with labels that they have, and Prometheus can parse
//! what they ask.
//!
//! That the tables of `docs/operations.md` have exactly the metrics that are exported is a test of
//! `kahn-cli`.

mod promql;
mod tables;

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value as Json, json};

use super::alerts::PROMTOOL;
use super::{Chart, files, read};
use crate::process::{say, succeeds};
use crate::workspace::{metadata, root};
use tables::Tables;

/// A question to Prometheus, and where it is asked.
#[derive(Debug)]
struct Query {
    place: String,
    expression: String,
}

/// Returns what is wrong with the queries of alerts and dashboards.
pub(super) fn check(chart: &Chart) -> Result<Vec<String>> {
    let tables = Tables::parse(&read(&root().join("docs/operations.md"))?)?;
    let queries = all(chart)?;
    let mut problems: Vec<String> = queries
        .iter()
        .flat_map(|query| {
            let problems = tables.problems(&promql::parse(&query.expression));
            problems.into_iter().map(|why| format!("{}: {why}", query.place))
        })
        .collect();
    if succeeds(PROMTOOL, &["--version"]) {
        problems.extend(unreadable(&queries)?);
    } else {
        say(&format!("NOT RUN: syntax of queries: install {PROMTOOL}, a part of Prometheus\n"));
    }
    Ok(problems)
}

fn all(chart: &Chart) -> Result<Vec<Query>> {
    let alerts = read(&chart.directory.join("monitoring/alerts.yaml"))?;
    let alerts: Vec<Json> = serde_saphyr::from_str(&alerts).context("alerts.yaml")?;
    let mut queries: Vec<Query> = alerts
        .iter()
        .map(|alert| Query {
            place: format!("alert {}", alert["alert"].as_str().unwrap_or_default()),
            expression: rendered(alert["expr"].as_str().unwrap_or_default()),
        })
        .collect();
    for path in files(&chart.directory.join("monitoring/dashboards"))? {
        let name = path.file_name().unwrap_or_default().display().to_string();
        let dashboard: Json =
            serde_json::from_str(&read(&path)?).with_context(|| format!("{name} is not JSON"))?;
        queries.extend(of_dashboard(&name, &dashboard));
    }
    Ok(queries)
}

/// Returns the queries of the panels and the variables of a dashboard.
fn of_dashboard(name: &str, dashboard: &Json) -> Vec<Query> {
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().into_iter().flatten() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            queries.push(Query {
                place: format!("{name}: {}", panel["title"].as_str().unwrap_or_default()),
                expression: rendered(target["expr"].as_str().unwrap_or_default()),
            });
        }
    }
    for variable in dashboard["templating"]["list"].as_array().into_iter().flatten() {
        let query = variable["query"]["query"].as_str();
        let values = query.and_then(|query| query.strip_prefix("label_values("));
        let Some((metric, label)) = values.and_then(|values| values.rsplit_once(", ")) else {
            continue;
        };
        let metric = if metric.contains('{') { metric.to_owned() } else { format!("{metric}{{}}") };
        queries.push(Query {
            place: format!("{name}: variable {}", variable["name"].as_str().unwrap_or_default()),
            expression: format!("count by ({}) ({metric})", label.trim_end_matches(')')),
        });
    }
    queries
}

/// Replaces what the chart and Grafana replace, as far as it is not in a string.
fn rendered(expression: &str) -> String {
    [
        ("RELEASE", "namespace=\"n\",app_kubernetes_io_instance=\"r\""),
        ("REPLICAS", "2"),
        ("DURABILITY", "1"),
        ("MEMORY", "1"),
        ("$__rate_interval", "5m"),
    ]
    .iter()
    .fold(expression.to_owned(), |text, (word, value)| text.replace(word, value))
}

/// Returns what Prometheus says about queries that it cannot parse.
fn unreadable(queries: &[Query]) -> Result<Option<String>> {
    let rules: Vec<Json> = queries
        .iter()
        .enumerate()
        .map(|(n, query)| json!({ "record": format!("query:{n}"), "expr": query.expression }))
        .collect();
    let directory = metadata()?.target_directory.join("chart");
    fs::create_dir_all(&directory).context("cannot create a directory for queries")?;
    let path = directory.join("queries.json");
    // JSON is YAML.
    let file = json!({ "groups": [{ "name": "queries", "rules": rules }] });
    fs::write(&path, file.to_string()).context("cannot write queries")?;
    let output = Command::new(PROMTOOL)
        .args(["check", "rules"])
        .arg(&path)
        .output()
        .with_context(|| format!("cannot start {PROMTOOL}"))?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    Ok((!output.status.success()).then_some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queries_of_panels_and_of_variables_are_found() {
        let dashboard = json!({
            "panels": [{ "title": "A", "targets": [{ "expr": "rate(a{}[$__rate_interval])" }] }],
            "templating": { "list": [
                { "name": "datasource", "query": "prometheus" },
                { "name": "pool", "query": { "query": "label_values(b{c=\"d\"}, pool)" } },
                { "name": "other", "query": { "query": "label_values(b, other)" } },
            ] },
        });
        let found: Vec<(String, String)> = of_dashboard("x.json", &dashboard)
            .into_iter()
            .map(|query| (query.place, query.expression))
            .collect();
        let expected = [
            ("x.json: A", "rate(a{}[5m])"),
            ("x.json: variable pool", "count by (pool) (b{c=\"d\"})"),
            ("x.json: variable other", "count by (other) (b{})"),
        ];
        assert_eq!(found, expected.map(|(place, text)| (place.to_owned(), text.to_owned())));
    }

    #[test]
    fn alerts_and_dashboards_ask_for_what_exists() {
        let chart = Chart::read(&root().join("helm/kahn")).unwrap();
        assert!(all(&chart).unwrap().len() > 80, "queries are not found");
        assert_eq!(check(&chart).unwrap(), Vec::<String>::new());
    }
}
