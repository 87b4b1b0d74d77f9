//! `cargo xtask hosts`: the Debian package in a virtual machine with systemd and control groups of
//! version 2.
//!
//! The machine is emulated, so that it needs no rights, and starts from memory: Debian's kernel, and a
//! system made by debootstrap with the package.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::checks;
use crate::machine;
use crate::process::{run as run_command, say};
use crate::test;
use crate::workspace::{cache, root};

/// Packages, and a program of each.
const PACKAGES: [(&str, &str); 2] =
    [("qemu-system-x86", "/usr/bin/qemu-system-x86_64"), ("busybox-static", "/bin/busybox")];
const RELEASE: &str = "bookworm";
/// What the system has besides the base.
const INCLUDED: &str = "--include=systemd,systemd-sysv,dbus,procps,libgcc-s1";
const SCRIPT: &str = include_str!("hosts/in-machine.sh");
/// The unit that runs the script.
const UNIT: &str = "[Unit]\nAfter=dbus.service network.target\n\
                    [Service]\nType=oneshot\nExecStart=/root/in-machine.sh\n";
/// How long the machine may run. It takes two minutes on two processors.
const SECONDS_MAX: &str = "900";

/// Builds the package, and tests it.
pub(crate) fn run() -> Result<()> {
    ensure!(machine::is_root(), "only root can make the system of a virtual machine");
    machine::ensure_packages(&PACKAGES)?;
    let cache = cache("KAHN_HOSTS_DIR", "hosts")?;
    fs::create_dir_all(&cache).with_context(|| cache.display().to_string())?;
    let kernel = kernel(&cache)?;
    let system = system(&cache)?;
    let built = test::build()?;
    let disk = prepare(&cache, &system, &built.join("kahn"))?;
    let said = start(&cache, &kernel, &disk)?;
    checks::judge(SCRIPT, &said)
}

/// Fetches the kernel, unless it is there. Only the file is taken from its package.
fn kernel(cache: &Path) -> Result<PathBuf> {
    let dir = cache.join("kernel");
    if let Some(kernel) = newest(&dir.join("boot"), "vmlinuz-")? {
        return Ok(kernel);
    }
    fs::create_dir_all(&dir)?;
    let fetch = "set -eu; name=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: //p' | head -n 1); \
                 apt-get download \"$name\"; dpkg-deb --extract \"$name\"_*.deb .; rm \"$name\"_*.deb; rm -rf lib usr";
    run_command(Command::new("sh").args(["-c", fetch]).current_dir(&dir))?;
    newest(&dir.join("boot"), "vmlinuz-")?.context("the package of the kernel has none")
}

fn newest(dir: &Path, prefix: &str) -> Result<Option<PathBuf>> {
    if !dir.exists() {
        return Ok(None);
    }
    let mut found: Vec<PathBuf> = fs::read_dir(dir)?.flatten().map(|entry| entry.path()).collect();
    let name = |path: &PathBuf| path.file_name().map(OsStr::to_owned).unwrap_or_default();
    found.retain(|path| name(path).to_string_lossy().starts_with(prefix));
    found.sort();
    Ok(found.pop())
}

/// Makes the system, unless it is there.
pub(crate) fn system(cache: &Path) -> Result<PathBuf> {
    let system = cache.join(RELEASE);
    if system.join("root/done").exists() {
        return Ok(system);
    }
    machine::ensure_packages(&[("debootstrap", "/usr/sbin/debootstrap")])?;
    say("making a Debian system, which takes a minute\n");
    if system.exists() {
        fs::remove_dir_all(&system)?;
    }
    let mut make = Command::new("debootstrap");
    run_command(make.args(["--variant=minbase", INCLUDED, RELEASE]).arg(&system))?;
    fs::write(system.join("root/done"), "")?;
    Ok(system)
}

/// Puts packages of two versions and the script into a copy of the system, and returns the archive from
/// which the machine starts.
fn prepare(cache: &Path, system: &Path, kahn: &Path) -> Result<PathBuf> {
    let (tree, disk) = (cache.join("tree"), cache.join("disk.gz"));
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    run_command(Command::new("cp").arg("-a").arg(system).arg(&tree))?;
    let packages = cache.join("packages");
    let build = root().join("deploy/debian/build-package");
    let output = Command::new(build)
        .arg(kahn)
        .arg(&packages)
        .env("COMPRESSION", "none")
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "the package cannot be built");
    let package = PathBuf::from(String::from_utf8(output.stdout)?.trim());
    fs::copy(&package, tree.join("root/kahn.deb"))?;
    let second = "set -eu; rm -rf second; dpkg-deb --raw-extract \"$1\" second; \
                  sed -i 's/^Version: .*/&+second/' second/DEBIAN/control; \
                  dpkg-deb --root-owner-group -Znone --build second \"$2\" >/dev/null; rm -rf second";
    let mut second = sh(second, cache);
    run_command(second.arg(&package).arg(tree.join("root/kahn2.deb")))?;
    fs::write(tree.join("root/in-machine.sh"), SCRIPT)?;
    fs::write(tree.join("etc/systemd/system/in-machine.service"), UNIT)?;
    let link = "chmod 755 root/in-machine.sh; ln -sf /lib/systemd/systemd init; \
                ln -sf /lib/systemd/system/multi-user.target etc/systemd/system/default.target; \
                mkdir -p etc/systemd/system/multi-user.target.wants; \
                ln -sf /etc/systemd/system/in-machine.service etc/systemd/system/multi-user.target.wants/; \
                find . -xdev | busybox cpio -o -H newc 2>/dev/null | gzip -1 > \"$1\"";
    run_command(sh(link, &tree).arg(&disk))?;
    Ok(disk)
}

/// Returns a command for a script, to which arguments can be added.
fn sh(script: &str, dir: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).current_dir(dir);
    command
}

/// Runs the machine until it powers itself off, and returns what the script said.
fn start(cache: &Path, kernel: &Path, disk: &Path) -> Result<String> {
    let said = cache.join("said");
    let mut machine = Command::new("timeout");
    machine
        .args([SECONDS_MAX, "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-smp", "2"])
        .args(["-m", "3072", "-display", "none", "-no-reboot"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(disk)
        .args(["-append", "console=ttyS0 rdinit=/init quiet"])
        .arg("-serial")
        .arg(format!("file:{}", cache.join("console").display()))
        .arg("-serial")
        .arg(format!("file:{}", said.display()));
    run_command(&mut machine)?;
    fs::read_to_string(&said).with_context(|| said.display().to_string())
}
