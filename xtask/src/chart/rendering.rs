//! What helm makes of the chart with the defaults, and with each file of values in `ci/`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value as Json;

use super::helm::Helm;
use super::{Chart, manifests};
use crate::process::{say, succeeds};
use crate::workspace::metadata;

/// The program that compares objects with the schemas of Kubernetes, from the Python package of the
/// same name.
const VALIDATOR: &str = "kubernetes-validate";
/// The newest version of Kubernetes whose schemas the chart is compared with.
const KUBERNETES: &str = "1.37";

/// Lints, renders and checks the chart with each file of values, and returns all problems.
pub(super) fn check(helm: &Helm, chart: &Chart) -> Result<Vec<String>> {
    let examples = chart.examples()?;
    let has_validator = succeeds(VALIDATOR, &["--version"]);
    if !has_validator {
        say(&format!("NOT RUN: schemas of Kubernetes: install {VALIDATOR} with pip\n"));
    }
    let mut problems = Vec::new();
    for values in [None].into_iter().chain(examples.iter().map(|path| Some(path.as_path()))) {
        let name = values.and_then(Path::file_name).unwrap_or("values.yaml".as_ref()).display();
        helm.lint(&chart.directory, values).with_context(|| name.to_string())?;
        let text = helm.template(&chart.directory, values).with_context(|| name.to_string())?;
        let objects = objects(&text).with_context(|| name.to_string())?;
        problems.extend(manifests::check(&objects).into_iter().map(|why| format!("{name}: {why}")));
        if has_validator {
            problems.extend(compare_with_schemas(&name.to_string(), &text)?);
        }
    }
    Ok(problems)
}

/// Parses the objects that helm rendered.
pub(super) fn objects(text: &str) -> Result<Vec<Json>> {
    let documents: Vec<Json> = serde_saphyr::from_multiple(text)?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// Returns how objects differ from the schemas of Kubernetes. Custom resources have none.
fn compare_with_schemas(name: &str, text: &str) -> Result<Option<String>> {
    let directory = metadata()?.target_directory.join("chart");
    fs::create_dir_all(&directory).context("cannot create a directory for rendered objects")?;
    let path = directory.join(name);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    let output = Command::new(VALIDATOR)
        .args(["--kubernetes-version", KUBERNETES, "--strict"])
        .arg(&path)
        .output()
        .with_context(|| format!("cannot start {VALIDATOR}"))?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    Ok((!output.status.success()).then_some(text))
}
