//! Detects which control groups this process may use.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::Version;
use crate::Controller;

/// The group of this process in the hierarchy of a controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(super) version: Version,
    pub(super) dir: PathBuf,
    /// Whether this is the root of the visible hierarchy, such as in a container.
    pub(super) is_top: bool,
}

impl Controller {
    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Cpu => "cpu",
        }
    }
}

/// Returns the usable version of each controller, or why it cannot be used. Has no side effects.
pub fn probe() -> Vec<(Controller, Result<u8, String>)> {
    let places = places();
    let check = |(controller, place): (Controller, Result<Place, String>)| {
        let found = place.and_then(|place| {
            let files = match place.version {
                Version::V1 => &["", "tasks"][..],
                Version::V2 => &["", "cgroup.procs", "cgroup.subtree_control"][..],
            };
            for file in files {
                let path = place.dir.join(file);
                rustix::fs::access(&path, Access::WRITE_OK)
                    .map_err(|error| format!("{}: {}", path.display(), words(error.into())))?;
            }
            Ok(place.version.number())
        });
        (controller, found)
    };
    places.into_iter().map(check).collect()
}

/// Returns the text of an OS error without its number.
pub(super) fn words(error: std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

pub(super) fn places() -> Vec<(Controller, Result<Place, String>)> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    Controller::ALL.map(|controller| (controller, find(controller, &groups, &mounts))).to_vec()
}

fn find(controller: Controller, groups: &str, mounts: &str) -> Result<Place, String> {
    let name = controller.name();
    let lines = || {
        groups.lines().filter_map(|line| {
            let mut fields = line.splitn(3, ':');
            Some((fields.next()?, fields.next()?, fields.next()?))
        })
    };
    let has = |list: &str| list.split(',').any(|word| word == name);
    if let Some((_, _, path)) = lines().find(|(_, controllers, _)| has(controllers)) {
        let mount = mounts.lines().filter_map(Mount::parse);
        let mut mount = mount.filter(|mount| mount.kind == "cgroup" && has(mount.options));
        return place(Version::V1, path, mount.next(), name);
    }
    let (_, _, path) = lines()
        .find(|(number, controllers, _)| *number == "0" && controllers.is_empty())
        .ok_or_else(|| format!("the system has no control groups for {name}"))?;
    let mut mount = mounts.lines().filter_map(Mount::parse).filter(|mount| mount.kind == "cgroup2");
    let place = place(Version::V2, path, mount.next(), name)?;
    let offered = fs::read_to_string(base(&place.dir).join("cgroup.controllers"));
    let offered = offered.unwrap_or_default();
    if offered.split_ascii_whitespace().any(|word| word == name) {
        return Ok(place);
    }
    let dir = place.dir.display();
    Err(format!("{name} is not handed down to {dir} (with systemd: Delegate=yes)"))
}

/// The group that a worker moves itself into, so that controllers can be enabled for its parent.
pub(super) const LEAF: &str = "kahn-leaf";

/// Returns the parent of the worker's groups: this process's group, or its parent if this process
/// has already moved into the leaf.
pub(super) fn base(own: &Path) -> &Path {
    match (own.file_name(), own.parent()) {
        (Some(name), Some(parent)) if name == LEAF => parent,
        _ => own,
    }
}

fn place(
    version: Version,
    path: &str,
    mount: Option<Mount<'_>>,
    name: &str,
) -> Result<Place, String> {
    let mount = mount.ok_or_else(|| format!("no control groups of {name} are mounted"))?;
    let below = Path::new(path)
        .strip_prefix(mount.root)
        .map_err(|_| format!("the control group {path} is outside of what is mounted"))?;
    let dir = Path::new(mount.point).join(below);
    let is_top = base(&dir) == Path::new(mount.point);
    Ok(Place { version, dir, is_top })
}

/// A line of `mountinfo`.
struct Mount<'a> {
    root: &'a str,
    point: &'a str,
    kind: &'a str,
    /// Options of the file system. In version 1 they name its controllers.
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (place, system) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let (root, point) = (place.next()?, place.next()?);
        let mut system = system.split(' ');
        let (kind, _source, options) = (system.next()?, system.next()?, system.next()?);
        Some(Self { root, point, kind, options })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate";

    #[test]
    fn a_controller_of_version_1_is_found_among_those_it_is_mounted_with() {
        let groups = "4:memory:/docker/abc/x\n1:cpu,cpuacct:/user.slice\n0::/";
        let place = find(Controller::Cpu, groups, MOUNTS).unwrap();
        assert_eq!(place.version, Version::V1);
        assert_eq!(place.dir, Path::new("/sys/fs/cgroup/cpu,cpuacct/user.slice"));
        let place = find(Controller::Memory, groups, MOUNTS).unwrap();
        assert_eq!(place.dir, Path::new("/sys/fs/cgroup/memory/x"));
    }

    #[test]
    fn what_is_in_the_way_is_said() {
        let outside = find(Controller::Memory, "4:memory:/other\n", MOUNTS).unwrap_err();
        assert!(outside.contains("/other is outside"), "{outside}");
        let unmounted = find(Controller::Pids, "8:pids:/\n", MOUNTS).unwrap_err();
        assert!(unmounted.contains("no control groups of pids are mounted"), "{unmounted}");
        let nowhere = find(Controller::Pids, "", MOUNTS).unwrap_err();
        assert!(nowhere.contains("has no control groups for pids"), "{nowhere}");
    }

    #[test]
    fn version_2_offers_what_was_handed_down() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("system.slice/kahn.service/kahn-leaf");
        fs::create_dir_all(&own).unwrap();
        fs::write(base(&own).join("cgroup.controllers"), "cpu pids\n").unwrap();
        let mounts = format!("1 2 0:3 / {} rw - cgroup2 none rw", dir.path().display());
        let groups = "0::/system.slice/kahn.service/kahn-leaf";
        let place = find(Controller::Pids, groups, &mounts).unwrap();
        assert_eq!((place.version, place.is_top), (Version::V2, false));
        assert_eq!(place.dir, own);
        let missing = find(Controller::Memory, groups, &mounts).unwrap_err();
        assert!(missing.contains("Delegate=yes"), "{missing}");
    }
}
