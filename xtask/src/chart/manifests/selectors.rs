//! Whatever selects pods or Services selects some of this release.

use serde_json::{Map, Value as Json};

use super::{text, title};

/// Where kinds of objects have the labels that they select by, and whether they select pods.
const SELECTORS: [(&str, &str, bool); 7] = [
    ("Deployment", "/spec/selector/matchLabels", true),
    ("StatefulSet", "/spec/selector/matchLabels", true),
    ("PodDisruptionBudget", "/spec/selector/matchLabels", true),
    ("NetworkPolicy", "/spec/podSelector/matchLabels", true),
    ("PodMonitor", "/spec/selector/matchLabels", true),
    ("Service", "/spec/selector", true),
    ("ServiceMonitor", "/spec/selector/matchLabels", false),
];

pub(super) fn check(objects: &[Json]) -> Vec<String> {
    let of_pods: Vec<&Json> = objects.iter().filter_map(pod_labels).collect();
    let of_all: Vec<&Json> =
        objects.iter().filter_map(|object| object.pointer("/metadata/labels")).collect();
    let mut problems = Vec::new();
    for object in objects {
        let kind = text(object, "/kind");
        let Some((_, pointer, is_of_pods)) = SELECTORS.iter().find(|known| known.0 == kind) else {
            continue;
        };
        let selected = if *is_of_pods { &of_pods } else { &of_all };
        let is_satisfied = match object.pointer(pointer) {
            Some(Json::Object(wanted)) if !wanted.is_empty() => {
                selected.iter().any(|labels| contains(labels, wanted))
            }
            _ => false,
        };
        if !is_satisfied {
            problems.push(format!("{}: selects nothing of this release", title(object)));
        }
    }
    problems
}

/// Returns the labels of an object's pods.
fn pod_labels(object: &Json) -> Option<&Json> {
    match text(object, "/kind") {
        "Deployment" | "StatefulSet" => object.pointer("/spec/template/metadata/labels"),
        "Pod" => object.pointer("/metadata/labels"),
        _ => None,
    }
}

fn contains(labels: &Json, wanted: &Map<String, Json>) -> bool {
    wanted.iter().all(|(name, value)| labels.get(name) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_service_that_selects_no_pod_is_found() {
        let service = |label: &str| json!({ "kind": "Service", "metadata": { "name": "a" }, "spec": { "selector": { "x": label } } });
        let pod =
            json!({ "kind": "Pod", "metadata": { "name": "b", "labels": { "x": "1", "y": "2" } } });
        assert!(check(&[service("1"), pod.clone()]).is_empty());
        assert_eq!(check(&[service("2"), pod]).len(), 1);
        assert_eq!(check(&[service("1")]).len(), 1);
    }
}
