//! `cargo xtask chart`: keeps the documentation of the helm chart up to date, and checks the chart.
//!
//! The comments of `values.yaml` are the only place where a value is described. The table in
//! `README.md` and the descriptions in `values.schema.json` are generated from them.

mod alerts;
mod helm;
mod manifests;
mod queries;
mod readme;
mod refusals;
mod rendering;
mod rollouts;
mod schema;
mod usage;
mod values;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::process::{print_error, say};
use crate::workspace::root;
use values::Value;

/// What to do with files that are out of date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Write them.
    Write,
    /// Refuse them.
    Check,
}

/// Parses the options of the command.
pub(crate) fn parse(options: &[&str]) -> Result<Mode> {
    match *options {
        [] => Ok(Mode::Write),
        ["--check"] => Ok(Mode::Check),
        _ => bail!("usage: cargo xtask chart [--check]"),
    }
}

/// Updates or checks what is generated, and checks the chart. What helm is needed for is left out,
/// loudly, if there is none.
pub(crate) fn run(mode: Mode) -> Result<()> {
    let chart = Chart::read(&root().join("helm/kahn"))?;
    chart.bring_up_to_date(mode)?;
    let mut problems = usage::check(&chart);
    problems.extend(alerts::undocumented(&chart)?);
    problems.extend(queries::check(&chart)?);
    match helm::Helm::find() {
        Ok(helm) => {
            problems.extend(rendering::check(&helm, &chart)?);
            problems.extend(refusals::check(&helm, &chart)?);
            problems.extend(rollouts::check(&helm, &chart)?);
            problems.extend(alerts::check(&helm, &chart)?);
        }
        Err(why) => say(&format!("NOT RUN: rendering of the chart: {why:#}\n")),
    }
    for problem in &problems {
        print_error(problem);
    }
    ensure!(problems.is_empty(), "chart: {} problems", problems.len());
    say(&format!("chart: {} values, no problems\n", chart.values.len()));
    Ok(())
}

/// The files of the chart.
#[derive(Debug)]
struct Chart {
    directory: PathBuf,
    values: Vec<Value>,
    schema: serde_json::Value,
    /// The text of all templates.
    templates: String,
}

impl Chart {
    fn read(directory: &Path) -> Result<Self> {
        let schema = read(&directory.join("values.schema.json"))?;
        Ok(Self {
            directory: directory.to_owned(),
            values: values::parse(&read(&directory.join("values.yaml"))?)?,
            schema: serde_json::from_str(&schema).context("values.schema.json is not JSON")?,
            templates: texts_below(&directory.join("templates"))?.concat(),
        })
    }

    fn bring_up_to_date(&self, mode: Mode) -> Result<()> {
        let readme = self.directory.join("README.md");
        replace(&readme, &readme::with_table(&read(&readme)?, &self.values)?, mode)?;
        let schema = schema::with_descriptions(&self.schema, &self.values)?;
        replace(&self.directory.join("values.schema.json"), &schema, mode)
    }

    /// Returns the files with values of users, ordered by name.
    fn examples(&self) -> Result<Vec<PathBuf>> {
        files(&self.directory.join("ci"))
    }
}

/// Writes `text` to a file that has another text, or refuses that file.
fn replace(path: &Path, text: &str, mode: Mode) -> Result<()> {
    if read(path)? == text {
        return Ok(());
    }
    let name = path.file_name().unwrap_or_default().display();
    match mode {
        Mode::Check => bail!("{name} does not match values.yaml; run: cargo xtask chart"),
        Mode::Write => {
            say(&format!("chart: {name} is updated\n"));
            fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
        }
    }
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Returns the files and directories in a directory, ordered by name.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory)
        .with_context(|| format!("cannot read {}", directory.display()))?
        .map(|entry| Ok(entry?.path()));
    let mut paths: Vec<PathBuf> = entries.collect::<Result<_>>()?;
    paths.sort();
    Ok(paths)
}

fn texts_below(directory: &Path) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    for path in files(directory)? {
        if path.is_dir() {
            texts.extend(texts_below(&path)?);
        } else {
            texts.push(read(&path)?);
        }
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_generated_is_written_or_checked() {
        assert_eq!(parse(&[]).unwrap(), Mode::Write);
        assert_eq!(parse(&["--check"]).unwrap(), Mode::Check);
        assert!(parse(&["--verify"]).is_err());
    }

    #[test]
    fn a_file_that_is_out_of_date_is_refused_with_the_way_out() {
        let path = std::env::temp_dir().join(format!("kahn-xtask-{}", std::process::id()));
        fs::write(&path, "old").unwrap();
        let refusal = replace(&path, "new", Mode::Check).unwrap_err().to_string();
        assert!(refusal.ends_with("run: cargo xtask chart"), "{refusal}");
        replace(&path, "new", Mode::Write).unwrap();
        replace(&path, "new", Mode::Check).unwrap();
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn the_documentation_of_the_chart_is_up_to_date_and_every_value_is_used() {
        let chart = Chart::read(&root().join("helm/kahn")).unwrap();
        chart.bring_up_to_date(Mode::Check).unwrap();
        assert_eq!(usage::check(&chart), Vec::<String>::new());
    }
}
