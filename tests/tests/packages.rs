//! The Debian package, without installing it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use kahn_e2e::{kahn_path, project};

/// What the package has, apart from manual pages and documents.
const FILES: [&str; 7] = [
    "./usr/bin/kahn",
    "./usr/lib/systemd/system/kahn-coordinator.service",
    "./usr/lib/systemd/system/kahn-worker.service",
    "./etc/kahn/kahn.toml",
    "./usr/share/man/man1/kahn.1.gz",
    "./usr/share/man/man1/kahn-worker.1.gz",
    "./usr/share/bash-completion/completions/kahn",
];

/// Units, and the exposure that `systemd-analyze security` may find, in tenths.
const UNITS: [(&str, u32); 2] = [("kahn-coordinator", 13), ("kahn-worker", 50)];

fn output(command: &mut Command) -> anyhow::Result<String> {
    let what = format!("{command:?}");
    let output = command.output().with_context(|| what.clone())?;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{what}: {error}{}", String::from_utf8_lossy(&output.stdout));
    Ok(String::from_utf8(output.stdout)? + &error)
}

fn build(dir: &Path) -> anyhow::Result<PathBuf> {
    let script = project().join("deploy/debian/build-package");
    let mut command = Command::new(script);
    let built = output(command.arg(kahn_path()).arg(dir).env("COMPRESSION", "none"))?;
    let line = built.lines().find(|line| line.ends_with(".deb")).context("no package")?;
    Ok(line.into())
}

#[expect(clippy::print_stdout, reason = "a test that was not run must be reported")]
fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        println!("NOT RUN: {program} is not installed");
    }
    found
}

#[test]
fn the_package_has_what_a_host_needs_and_its_units_are_valid_and_confined() -> anyhow::Result<()> {
    if !has("dpkg-deb") {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let package = build(dir.path())?;
    let deb = |arguments: &[&str]| output(Command::new("dpkg-deb").args(arguments).arg(&package));
    let listed = deb(&["--contents"])?;
    let files: BTreeSet<&str> =
        listed.lines().filter_map(|line| line.split(' ').next_back()).collect();
    for file in FILES {
        ensure!(files.contains(file), "{file} is missing in {listed}");
    }
    ensure!(listed.lines().all(|line| line.contains(" root/root ")), "{listed}");
    let control = deb(&["--field"])?;
    ensure!(control.contains("Depends: libc6 (>= 2."), "{control}");

    let root = dir.path().join("root");
    output(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(&root))?;
    let shown = Command::new(root.join("usr/bin/kahn"))
        .args(["config", "show"])
        .env("KAHN_CONFIG", root.join("etc/kahn/kahn.toml"))
        .output()?;
    ensure!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    if !has("systemd-analyze") {
        return Ok(());
    }
    for (unit, exposure) in UNITS {
        let file = root.join(format!("usr/lib/systemd/system/{unit}.service"));
        // The program is not where the unit says.
        let text = std::fs::read_to_string(&file)?.replace("=/usr/bin/kahn", "=/bin/true");
        std::fs::write(&file, text)?;
        let analyze = || Command::new("systemd-analyze");
        let said = output(analyze().args(["verify", "--man=no"]).arg(&file))?;
        ensure!(said.trim().is_empty(), "{said}");
        let threshold = format!("--threshold={exposure}");
        output(
            analyze().args(["security", "--offline=true", "--no-pager", &threshold]).arg(&file),
        )?;
    }
    Ok(())
}
