//! Runs helm.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};

use crate::process::{say, variable};

/// The variable that names the program, for example to test with another version.
const VARIABLE: &str = "KAHN_HELM";

/// The release and the namespace of rendered charts.
pub(super) const RELEASE: [&str; 2] = ["kahn", "tasks"];

/// The program `helm`.
#[derive(Debug)]
pub(super) struct Helm {
    program: OsString,
}

impl Helm {
    /// Finds helm, and prints its version.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be started.
    pub(super) fn find() -> Result<Self> {
        let program = variable(VARIABLE).unwrap_or_else(|| "helm".into());
        let version = Command::new(&program).args(["version", "--short"]).output();
        match version {
            Ok(output) if output.status.success() => {
                say(&format!("helm {}", String::from_utf8_lossy(&output.stdout)));
                Ok(Self { program })
            }
            Ok(_) | Err(_) => {
                bail!("helm cannot be started; install it, or name it in {VARIABLE}")
            }
        }
    }

    /// Runs `helm lint --strict` with the values of a file.
    pub(super) fn lint(&self, chart: &Path, values: Option<&Path>) -> Result<()> {
        let output = self.output(chart, &["lint", "--strict"], &values_flags(values))?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "helm lint: {text}");
        Ok(())
    }

    /// Renders the chart with the values of a file.
    pub(super) fn template(&self, chart: &Path, values: Option<&Path>) -> Result<String> {
        accepted(self.render(chart, &values_flags(values))?)
    }

    /// Renders the chart with single values.
    pub(super) fn template_with(&self, chart: &Path, values: &[&str]) -> Result<String> {
        accepted(self.render(chart, &set_flags(values))?)
    }

    /// Renders the chart with single values, and returns why helm refused it, if it did.
    pub(super) fn refusal(&self, chart: &Path, values: &[&str]) -> Result<Option<String>> {
        let output = self.render(chart, &set_flags(values))?;
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok((!output.status.success()).then_some(complaint))
    }

    fn render(&self, chart: &Path, flags: &[&OsStr]) -> Result<Output> {
        let [release, namespace] = RELEASE;
        self.output(chart, &["template", release, "--namespace", namespace], flags)
    }

    fn output(&self, chart: &Path, arguments: &[&str], flags: &[&OsStr]) -> Result<Output> {
        let mut command = Command::new(&self.program);
        command.args(arguments).args(flags).arg(chart);
        command.output().context("cannot start helm")
    }
}

/// Returns what `helm template` rendered.
fn accepted(output: Output) -> Result<String> {
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "helm template: {complaint}");
    String::from_utf8(output.stdout).context("helm template printed no UTF-8")
}

fn set_flags<'a>(values: &[&'a str]) -> Vec<&'a OsStr> {
    values.iter().flat_map(|value| ["--set", value]).map(OsStr::new).collect()
}

fn values_flags(values: Option<&Path>) -> Vec<&OsStr> {
    values.map(|path| [OsStr::new("--values"), path.as_os_str()]).into_iter().flatten().collect()
}
