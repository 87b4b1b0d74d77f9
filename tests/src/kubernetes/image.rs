//! Images without a registry: programs of this machine with the libraries they need.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::commands::output_of;

/// The commands that a shell script may use.
const COMMANDS: [&str; 16] = [
    "sh", "sleep", "echo", "cat", "ls", "wget", "true", "false", "test", "mkdir", "rm", "date",
    "id", "env", "kill", "nslookup",
];

/// An image with some programs, and a shell.
#[derive(Clone, Debug)]
pub struct Image {
    name: String,
    /// A program, and its path in the image.
    programs: Vec<(PathBuf, String)>,
    entrypoint: Vec<String>,
}

/// Returns the image that holds the namespaces of a pod.
pub(super) fn pause() -> Image {
    Image::new("kahn.test/pause:1", &["/bin/sleep", "2147483647"])
}

impl Image {
    /// An image with a shell, and nothing else.
    #[must_use]
    pub fn new(name: &str, entrypoint: &[&str]) -> Self {
        let entrypoint = entrypoint.iter().map(|word| (*word).to_owned()).collect();
        Self { name: name.to_owned(), programs: Vec::new(), entrypoint }
    }

    /// Adds a program of this machine.
    #[must_use]
    pub fn with(mut self, program: &Path, at: &str) -> Self {
        self.programs.push((program.to_owned(), at.to_owned()));
        self
    }

    /// Returns the name, with the tag.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Builds an archive of the image in `dir`, unless it is there, and returns its path.
    pub(super) fn build(&self, dir: &Path) -> anyhow::Result<PathBuf> {
        let dir = dir.join(self.name.replace(['/', ':'], "-"));
        let archive = dir.join("image.tar");
        if archive.exists() {
            return Ok(archive);
        }
        let root = dir.join("root");
        self.fill(&root)?;
        let tar = || Command::new("tar");
        let common = ["--sort=name", "--owner=0", "--group=0", "--numeric-owner"];
        let layer = dir.join("layer.tar");
        output_of(tar().args(common).arg("-C").arg(&root).arg("-cf").arg(&layer).arg("."))?;
        let sum = output_of(Command::new("sha256sum").arg(&layer))?;
        let sum = sum.split(' ').next().unwrap_or_default();
        let config = json!({
            "architecture": std::env::consts::ARCH.replace("x86_64", "amd64").replace("aarch64", "arm64"),
            "os": "linux",
            "config": { "Entrypoint": self.entrypoint, "Env": ["PATH=/usr/local/bin:/bin"] },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{sum}")] },
        });
        let manifest = json!([{
            "Config": "config.json", "RepoTags": [self.name], "Layers": ["layer.tar"],
        }]);
        std::fs::write(dir.join("config.json"), config.to_string())?;
        std::fs::write(dir.join("manifest.json"), manifest.to_string())?;
        let files = ["manifest.json", "config.json", "layer.tar"];
        output_of(tar().arg("-C").arg(&dir).arg("-cf").arg(&archive).args(files))?;
        Ok(archive)
    }

    fn fill(&self, root: &Path) -> anyhow::Result<()> {
        for dir in ["bin", "usr/local/bin", "tmp", "etc", "var/lib"] {
            std::fs::create_dir_all(root.join(dir))?;
        }
        std::fs::write(
            root.join("etc/passwd"),
            "root:x:0:0::/:/bin/sh\nkahn:x:65532:65532::/:/bin/sh\n",
        )?;
        copy(Path::new("/bin/busybox"), &root.join("bin/busybox"))?;
        for command in COMMANDS {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(command))?;
        }
        for (program, at) in &self.programs {
            copy(program, &root.join(at.trim_start_matches('/')))?;
            for library in libraries(program)? {
                let at = root.join(library.strip_prefix("/")?);
                copy(&library, &at)?;
            }
        }
        Ok(())
    }
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    if let Some(dir) = to.parent() {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::copy(from, to)?;
    Ok(())
}

/// Returns the libraries of a program, the dynamic linker included.
fn libraries(program: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let ldd = Command::new("ldd").arg(program).output()?;
    // It fails for a program that needs none.
    let text = String::from_utf8_lossy(&ldd.stdout).into_owned();
    let paths = text.split_whitespace().filter(|word| word.starts_with('/'));
    Ok(paths.map(PathBuf::from).collect())
}
