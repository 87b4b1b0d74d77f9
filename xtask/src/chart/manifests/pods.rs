//! Every pod satisfies the Pod Security Standard `restricted`, and more.

use serde_json::Value as Json;

use super::title;

/// Returns the specification of an object's pods, if it has pods.
pub(super) fn pod(object: &Json) -> Option<&Json> {
    let pointer = match super::text(object, "/kind") {
        "Deployment" | "StatefulSet" => "/spec/template/spec",
        "Pod" => "/spec",
        _ => return None,
    };
    object.pointer(pointer)
}

/// Settings of a pod, and their only allowed value as JSON.
const OF_PODS: [(&str, &str); 3] = [
    ("/securityContext/runAsNonRoot", "true"),
    ("/securityContext/seccompProfile/type", "\"RuntimeDefault\""),
    ("/enableServiceLinks", "false"),
];

/// Settings of a container, and their only allowed value as JSON.
const OF_CONTAINERS: [(&str, &str); 3] = [
    ("/securityContext/allowPrivilegeEscalation", "false"),
    ("/securityContext/readOnlyRootFilesystem", "true"),
    ("/securityContext/capabilities/drop", "[\"ALL\"]"),
];

pub(super) fn check(objects: &[Json]) -> Vec<String> {
    let mut problems = Vec::new();
    let n_accounts = objects.iter().filter(|object| super::text(object, "/kind") == "Role").count();
    for (object, pod) in objects.iter().filter_map(|object| Some((object, pod(object)?))) {
        let mut wrong = |what: &str| problems.push(format!("{}: {what}", title(object)));
        for (pointer, expected) in OF_PODS {
            if !has(pod, pointer, expected) {
                wrong(&format!("`{pointer}` must be {expected}"));
            }
        }
        if has(pod, "/automountServiceAccountToken", "true") && n_accounts == 0 {
            wrong("has a token of the API, but no permissions");
        }
        if pod.get("automountServiceAccountToken").is_none() {
            wrong("does not say whether it needs a token of the API");
        }
        for container in containers(pod) {
            let name = super::text(container, "/name");
            for (pointer, expected) in OF_CONTAINERS {
                if !has(container, pointer, expected) {
                    wrong(&format!("container {name}: `{pointer}` must be {expected}"));
                }
            }
        }
        for container in containers(pod).filter(|container| is_ours(container)) {
            let name = super::text(container, "/name");
            for pointer in ["/resources/requests/memory", "/resources/limits/memory"] {
                if container.pointer(pointer).is_none() {
                    wrong(&format!("container {name}: has no `{pointer}`"));
                }
            }
        }
    }
    problems
}

/// Returns whether an object has a value, which is given as JSON.
fn has(object: &Json, pointer: &str, expected: &str) -> bool {
    let expected: Option<Json> = serde_json::from_str(expected).ok();
    object.pointer(pointer) == expected.as_ref()
}

fn containers(pod: &Json) -> impl Iterator<Item = &Json> {
    ["initContainers", "containers"]
        .into_iter()
        .filter_map(|kind| pod.get(kind).and_then(Json::as_array))
        .flatten()
}

/// Returns whether the chart defines a container, and not the user.
fn is_ours(container: &Json) -> bool {
    let ours = ["coordinator", "worker", "redis", "wait-for-redis", "submit"];
    ours.contains(&super::text(container, "/name"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn deployment() -> Json {
        json!({ "kind": "Deployment", "metadata": { "name": "a" }, "spec": { "template": { "spec": {
            "enableServiceLinks": false,
            "automountServiceAccountToken": false,
            "securityContext": {
                "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" },
            },
            "containers": [{
                "name": "worker",
                "resources": { "requests": { "memory": "1Gi" }, "limits": { "memory": "1Gi" } },
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": { "drop": ["ALL"] },
                },
            }],
        } } } })
    }

    #[test]
    fn each_missing_setting_is_found() {
        assert_eq!(check(&[deployment()]), Vec::<String>::new());
        for pointer in [
            "/securityContext/runAsNonRoot",
            "/securityContext/seccompProfile",
            "/enableServiceLinks",
            "/automountServiceAccountToken",
            "/containers/0/securityContext/allowPrivilegeEscalation",
            "/containers/0/securityContext/readOnlyRootFilesystem",
            "/containers/0/securityContext/capabilities",
            "/containers/0/resources/limits",
        ] {
            let mut object = deployment();
            let at = format!("/spec/template/spec{pointer}");
            *object.pointer_mut(&at).unwrap() = json!(null);
            // What is null counts as missing, but for keys whose presence matters.
            if pointer == "/automountServiceAccountToken" {
                let pod = object.pointer_mut("/spec/template/spec").unwrap();
                pod.as_object_mut().unwrap().remove("automountServiceAccountToken");
            }
            assert_eq!(check(&[object]).len(), 1, "{pointer}");
        }
    }

    #[test]
    fn a_token_of_the_api_needs_a_role() {
        let mut object = deployment();
        object["spec"]["template"]["spec"]["automountServiceAccountToken"] = json!(true);
        let role = json!({ "kind": "Role", "metadata": { "name": "a" } });
        assert_eq!(check(std::slice::from_ref(&object)).len(), 1);
        assert_eq!(check(&[object, role]).len(), 0);
    }
}
