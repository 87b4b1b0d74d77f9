//! Programs of Go modules that cannot be installed directly, because the modules replace others.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value as Json;

use crate::process::run;

/// A module, and what is built of it.
pub(super) struct Module {
    /// The path of the module.
    pub path: &'static str,
    pub version: &'static str,
    /// The name of each program, and its package within the module.
    pub programs: &'static [(&'static str, &'static str)],
}

/// KEDA, whose definitions of objects are needed, too.
pub(super) const KEDA: Module = Module {
    path: "github.com/kedacore/keda/v2",
    version: "v2.21.0",
    programs: &[("keda-operator", "cmd/operator"), ("keda-adapter", "cmd/adapter")],
};

/// What answers for external metrics with those of Prometheus.
pub(super) const PROMETHEUS_ADAPTER: Module = Module {
    path: "sigs.k8s.io/prometheus-adapter",
    version: "v0.12.0",
    programs: &[("prometheus-adapter", "cmd/adapter")],
};

impl Module {
    /// Builds the programs into `bin`, unless they are there.
    pub(super) fn ensure(&self, cache: &Path, bin: &Path) -> Result<()> {
        if self.programs.iter().all(|(name, _)| bin.join(name).exists()) {
            return Ok(());
        }
        let dir = self.prepare(cache)?;
        for (name, package) in self.programs {
            let mut build = go(&dir);
            build.args(["build", "-ldflags", "-s -w", "-o"]).arg(bin.join(name));
            run(build.arg(format!("{}/{package}", self.path)))?;
        }
        Ok(())
    }

    /// Copies a directory of the module to the cache, unless it is there.
    pub(super) fn ensure_copy(&self, cache: &Path, from: &str, to: &Path) -> Result<()> {
        if to.exists() {
            return Ok(());
        }
        let source = Path::new(text(&self.download(cache)?, "Dir")?).join(from);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        // Files of modules are read-only.
        run(Command::new("cp").args(["-r", "--no-preserve=mode"]).arg(source).arg(to))
    }

    fn download(&self, cache: &Path) -> Result<Json> {
        let module = format!("{}@{}", self.path, self.version);
        let output = go(cache).args(["mod", "download", "-json", &module]).output()?;
        ensure!(output.status.success(), "cannot download {module}");
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Creates a module that requires this one, with the same replacements.
    fn prepare(&self, cache: &Path) -> Result<std::path::PathBuf> {
        let downloaded = self.download(cache)?;
        let published = text(&downloaded, "GoMod")?;
        let dir = cache.join("modules").join(self.path.replace('/', "-"));
        fs::create_dir_all(&dir)?;
        let published = fs::read_to_string(published).with_context(|| published.to_owned())?;
        fs::write(dir.join("go.mod"), self.go_mod(&published))?;
        let imports: String = self
            .programs
            .iter()
            .map(|(_, p)| format!("import _ \"{}/{p}\"\n", self.path))
            .collect();
        fs::write(dir.join("tools.go"), format!("package tools\n\n{imports}"))?;
        Ok(dir)
    }

    fn go_mod(&self, published: &str) -> String {
        let is_kept = |line: &&str| line.starts_with("go ") || line.starts_with("replace ");
        let kept: Vec<&str> = published.lines().filter(is_kept).collect();
        let (path, version) = (self.path, self.version);
        format!("module kahn.test/tools\n\n{}\n\nrequire {path} {version}\n", kept.join("\n"))
    }
}

/// Returns a command of Go that builds without C, in a directory.
pub(super) fn go(dir: &Path) -> Command {
    let mut go = Command::new("go");
    go.current_dir(dir).env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=mod -trimpath");
    go
}

fn text<'a>(value: &'a Json, key: &str) -> Result<&'a str> {
    match value[key].as_str() {
        Some(text) => Ok(text),
        None => bail!("Go does not tell {key} of the module"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replacements_of_a_module_are_repeated() {
        let published = "module a\n\ngo 1.22.1\n\nrequire x v1.0.0\n\nreplace x => y v1.1.0\n";
        let expected = "module kahn.test/tools\n\ngo 1.22.1\nreplace x => y v1.1.0\n\n\
                        require sigs.k8s.io/prometheus-adapter v0.12.0\n";
        assert_eq!(PROMETHEUS_ADAPTER.go_mod(published), expected);
    }
}
