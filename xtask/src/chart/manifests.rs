//! Rules for the objects that the chart renders.

mod pods;
mod scaling;
mod selectors;

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::helm::RELEASE;

/// Maximum length of a name that is also a label or a DNS name.
const NAME_MAX: usize = 63;

/// Returns every violation of the rules.
pub(super) fn check(objects: &[Json]) -> Vec<String> {
    let mut problems = names(objects);
    problems.extend(configurations(objects));
    problems.extend(pods::check(objects));
    problems.extend(scaling::check(objects));
    problems.extend(selectors::check(objects));
    problems
}

/// Returns the text at a JSON pointer, or an empty one.
fn text<'a>(object: &'a Json, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Json::as_str).unwrap_or_default()
}

/// Returns an object's kind and name.
fn title(object: &Json) -> String {
    format!("{} {}", text(object, "/kind"), text(object, "/metadata/name"))
}

/// Every object has a name of its own that is not too long, and a namespace.
fn names(objects: &[Json]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    for object in objects {
        let [name, namespace] =
            ["/metadata/name", "/metadata/namespace"].map(|at| text(object, at));
        if name.is_empty() || name.len() > NAME_MAX {
            problems.push(format!("{}: the name is empty or too long", title(object)));
        }
        if namespace.is_empty() {
            problems.push(format!("{}: has no namespace", title(object)));
        }
        let is_access = matches!(text(object, "/kind"), "Role" | "RoleBinding" | "ConfigMap");
        if namespace != RELEASE[1] && !is_access {
            problems.push(format!("{}: is not in the release's namespace", title(object)));
        }
        if !seen.insert((title(object), namespace)) {
            problems.push(format!("{}: exists twice", title(object)));
        }
    }
    problems
}

/// Every `kahn.toml` is TOML, and plain text off loopback is a decision.
fn configurations(objects: &[Json]) -> Vec<String> {
    let mut problems = Vec::new();
    for object in objects {
        let Some(text) = object.pointer("/data/kahn.toml").and_then(Json::as_str) else { continue };
        match text.parse::<toml::Table>() {
            Err(error) => problems.push(format!("{}: {error}", title(object))),
            Ok(file) => {
                let servers = ["coordinator", "autoscaler"].into_iter().filter_map(|s| file.get(s));
                let is_undecided = |server: &toml::Value| {
                    server.get("insecure").is_some() == server.get("tls").is_some()
                };
                if servers.into_iter().any(is_undecided) {
                    let needed = "needs either `insecure` or `tls`";
                    problems.push(format!("{}: {needed}", title(object)));
                }
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_object_without_a_namespace_or_with_the_name_of_another_is_found() {
        let object = |namespace: &str| json!({ "kind": "Service", "metadata": { "name": "a", "namespace": namespace } });
        assert_eq!(names(&[object("tasks")]), Vec::<String>::new());
        assert_eq!(names(&[object("tasks"), object("tasks")]), ["Service a: exists twice"]);
        assert_eq!(names(&[object("other")]), ["Service a: is not in the release's namespace"]);
        assert_eq!(names(&[object("")])[0], "Service a: has no namespace");
    }

    #[test]
    fn a_configuration_that_is_no_toml_or_decides_nothing_about_tls_is_found() {
        let of = |text: &str| {
            let object = json!({
                "kind": "ConfigMap",
                "metadata": { "name": "a" },
                "data": { "kahn.toml": text },
            });
            configurations(&[object]).len()
        };
        assert_eq!(of("[coordinator]\ninsecure = true\n"), 0);
        assert_eq!(of("[coordinator.tls]\ncert_file = \"/a\"\n"), 0);
        assert_eq!(of("[worker]\n"), 0);
        assert_eq!(of("[coordinator]\n"), 1);
        assert_eq!(of("[coordinator\n"), 1);
    }
}
