//! What scales has no fixed size, which an upgrade would restore.

use serde_json::Value as Json;

use super::{text, title};

pub(super) fn check(objects: &[Json]) -> Vec<String> {
    let scaled: Vec<&str> = objects
        .iter()
        .filter(|object| {
            matches!(text(object, "/kind"), "HorizontalPodAutoscaler" | "ScaledObject")
        })
        .map(|object| text(object, "/spec/scaleTargetRef/name"))
        .collect();
    let mut problems = Vec::new();
    for object in objects.iter().filter(|object| text(object, "/kind") == "Deployment") {
        let n_scalers =
            scaled.iter().filter(|target| **target == text(object, "/metadata/name")).count();
        let is_fixed = object.pointer("/spec/replicas").is_some();
        if n_scalers > 1 {
            problems.push(format!("{}: {n_scalers} objects scale it", title(object)));
        }
        if is_fixed == (n_scalers > 0) {
            let what = "needs either `replicas` or an object that scales it";
            problems.push(format!("{}: {what}", title(object)));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_size_is_either_fixed_or_scaled() {
        let fixed =
            json!({ "kind": "Deployment", "metadata": { "name": "a" }, "spec": { "replicas": 2 } });
        let free = json!({ "kind": "Deployment", "metadata": { "name": "a" }, "spec": {} });
        let scaler =
            json!({ "kind": "ScaledObject", "spec": { "scaleTargetRef": { "name": "a" } } });
        assert!(check(std::slice::from_ref(&fixed)).is_empty());
        assert!(check(&[free.clone(), scaler.clone()]).is_empty());
        assert_eq!(check(&[fixed, scaler.clone()]).len(), 1);
        assert_eq!(check(std::slice::from_ref(&free)).len(), 1);
        assert_eq!(check(&[free, scaler.clone(), scaler]).len(), 1);
    }
}
