//! Each crate depends only on what `xtask/layers.toml` allows.
//!
//! Only `[dependencies]` are checked: the dependencies of tests and build scripts are not shipped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::Problem;
use crate::workspace::{Metadata, Package};

const TABLE: &str = "xtask/layers.toml";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Layers {
    crates: BTreeMap<String, Allowed>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Allowed {
    ours: BTreeSet<String>,
    outside: BTreeSet<String>,
}

pub(super) fn check(root: &Path, metadata: &Metadata) -> Result<Vec<Problem>> {
    let text = fs::read_to_string(root.join(TABLE)).with_context(|| format!("reading {TABLE}"))?;
    let layers: Layers = toml::from_str(&text).with_context(|| format!("reading {TABLE}"))?;
    Ok(compare(&layers, metadata))
}

fn compare(layers: &Layers, metadata: &Metadata) -> Vec<Problem> {
    let ours: BTreeSet<&str> = metadata.packages.iter().map(|package| &*package.name).collect();
    let gone = layers.crates.keys().filter(|name| !ours.contains(&***name));
    let mut problems: Vec<Problem> =
        gone.map(|name| Problem::new(TABLE, 0, format!("there is no crate {name}"))).collect();
    for package in &metadata.packages {
        match layers.crates.get(&package.name) {
            Some(allowed) => problems.extend(violations(package, allowed, &ours)),
            None => problems.push(Problem::new(TABLE, 0, format!("{} is missing", package.name))),
        }
    }
    problems
}

fn violations(package: &Package, allowed: &Allowed, ours: &BTreeSet<&str>) -> Vec<Problem> {
    package
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind.is_none())
        .filter_map(|dependency| {
            let name = &dependency.name;
            let is_ours = ours.contains(&**name);
            let list = if is_ours { &allowed.ours } else { &allowed.outside };
            let field = if is_ours { "ours" } else { "outside" };
            let message = format!("{} may not depend on {name}: not in `{field}`", package.name);
            (!list.contains(name)).then(|| Problem::new(TABLE, 0, message))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYERS: &str = "
        [crates.kahn-model]
        ours = []
        outside = ['thiserror']
        [crates.kahn-core]
        ours = ['kahn-model']
        outside = []
    ";

    fn messages(model: &[(&str, Option<&str>)], core: &[(&str, Option<&str>)]) -> Vec<String> {
        let package = |name: &str, dependencies: &[(&str, Option<&str>)]| {
            let dependencies: Vec<_> = dependencies
                .iter()
                .map(|(name, kind)| serde_json::json!({ "name": name, "kind": kind }))
                .collect();
            serde_json::json!({ "name": name, "dependencies": dependencies })
        };
        let metadata = serde_json::json!({
            "packages": [package("kahn-model", model), package("kahn-core", core)],
            "target_directory": "target",
        });
        let metadata = serde_json::from_value(metadata).unwrap();
        let problems = compare(&toml::from_str(LAYERS).unwrap(), &metadata);
        problems.into_iter().map(|problem| problem.message).collect()
    }

    #[test]
    fn allowed_dependencies_pass() {
        let model = [("thiserror", None), ("proptest", Some("dev")), ("cc", Some("build"))];
        assert!(messages(&model, &[("kahn-model", None)]).is_empty());
    }

    #[test]
    fn an_arrow_that_points_up_is_found() {
        assert_eq!(
            messages(&[("kahn-core", None)], &[]),
            ["kahn-model may not depend on kahn-core: not in `ours`"]
        );
    }

    #[test]
    fn an_outside_crate_that_is_not_in_the_table_is_found() {
        assert_eq!(
            messages(&[], &[("tokio", None)]),
            ["kahn-core may not depend on tokio: not in `outside`"]
        );
    }

    #[test]
    fn a_crate_that_is_missing_on_either_side_is_found() {
        let layers: Layers = toml::from_str(LAYERS).unwrap();
        let metadata = serde_json::from_value(serde_json::json!({
            "packages": [{ "name": "kahn-model", "dependencies": [] },
                         { "name": "kahn-new", "dependencies": [] }],
            "target_directory": "target",
        }));
        let problems = compare(&layers, &metadata.unwrap());
        let messages: Vec<_> = problems.iter().map(|problem| &*problem.message).collect();
        assert_eq!(messages, ["there is no crate kahn-core", "kahn-new is missing"]);
    }
}
