//! A change of values restarts the pods that it concerns, and no others.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::Value as Json;

use super::helm::Helm;
use super::{Chart, rendering};

/// Values without which rendering twice generates different secrets.
const FIXED: [&str; 3] = ["tokens.existingSecret=a", "redis.existingSecret=b", "tls.mode=disabled"];

const COORDINATOR: &str = "StatefulSet kahn-coordinator";
const REDIS: &str = "StatefulSet kahn-redis";
const WORKER: &str = "Deployment kahn-worker-default";

/// A change, and what it restarts.
const CHANGES: [(&str, &[&str]); 8] = [
    ("coordinator.config.leader_ttl=5s", &[COORDINATOR]),
    ("workerDefaults.config.grace=20s", &[WORKER]),
    ("telemetry.log=warn", &[WORKER, COORDINATOR]),
    ("image.tag=next", &[WORKER, COORDINATOR]),
    ("redis.appendfsync=always", &[REDIS]),
    ("coordinator.replicas=3", &[]),
    ("workerDefaults.replicas=3", &[]),
    ("monitoring.serviceMonitor.enabled=true", &[]),
];

/// Returns a problem for each change that restarts other pods than it should.
pub(super) fn check(helm: &Helm, chart: &Chart) -> Result<Vec<String>> {
    let before = templates(helm, chart, None)?;
    let mut problems = Vec::new();
    for (change, expected) in CHANGES {
        let restarted = changed(&before, &templates(helm, chart, Some(change))?);
        if restarted != expected {
            problems.push(format!("{change} restarts {restarted:?} and not {expected:?}"));
        }
    }
    Ok(problems)
}

/// Returns the templates of pods by the kind and name of their object.
fn templates(helm: &Helm, chart: &Chart, change: Option<&str>) -> Result<BTreeMap<String, Json>> {
    let values: Vec<&str> = FIXED.into_iter().chain(change).collect();
    let objects = rendering::objects(&helm.template_with(&chart.directory, &values)?)?;
    let template = |object: &Json| Some((title(object), object.pointer("/spec/template")?.clone()));
    Ok(objects.iter().filter_map(template).collect())
}

fn title(object: &Json) -> String {
    let text = |pointer| object.pointer(pointer).and_then(Json::as_str).unwrap_or_default();
    format!("{} {}", text("/kind"), text("/metadata/name"))
}

fn changed<'a>(before: &'a BTreeMap<String, Json>, after: &BTreeMap<String, Json>) -> Vec<&'a str> {
    let differs = |(title, template): &(&String, &Json)| after.get(*title) != Some(*template);
    before.iter().filter(differs).map(|(title, _)| title.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_has_another_template_is_restarted() {
        let templates = |b: i32| BTreeMap::from([("a".into(), json!(1)), ("b".into(), json!(b))]);
        assert_eq!(changed(&templates(1), &templates(1)), Vec::<&str>::new());
        assert_eq!(changed(&templates(1), &templates(2)), ["b"]);
    }
}
