//! The parent of the groups of all attempts of a worker.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::detect::{self, LEAF, Place, base, words};
use super::sweep::{self, PREFIX};
use super::{Version, shares, weight};
use crate::Controller;

/// The parent group in the hierarchy of each controller.
#[derive(Debug)]
pub(super) struct Parent {
    places: Vec<(Controller, ParentPlace)>,
    pub(super) is_memory_bounded: bool,
    /// Version 1: the shared memory group of attempts without a separate one. Pages are charged in
    /// batches per CPU and group, so switching groups with each attempt would cost a short one
    /// about 5 %.
    pub(super) common: Option<Common>,
}

/// The shared memory group.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) tasks: File,
    pub(super) kills: File,
}

#[derive(Debug)]
pub(super) struct ParentPlace {
    pub(super) version: Version,
    pub(super) dir: PathBuf,
    /// Version 1: the original group of this process's threads.
    home: Option<File>,
}

impl Parent {
    /// Creates the usable groups, after removing those of dead workers.
    pub(super) fn make(
        worker: &str,
        memory: Option<u64>,
        cpu_milli: u64,
    ) -> (Self, Vec<(Controller, String)>) {
        static N_MADE: AtomicU64 = AtomicU64::new(0);
        let name = sweep::name(worker, N_MADE.fetch_add(1, Ordering::Relaxed));
        let (mut places, mut refused) = (Vec::<(_, ParentPlace)>::new(), Vec::new());
        let mut tried = BTreeSet::new();
        for (controller, place) in detect::places() {
            let made = place.and_then(|place| {
                tried.insert(base(&place.dir).join(&name));
                make(controller, &place, &name)
            });
            match made {
                Ok(place) => places.push((controller, place)),
                Err(why) => refused.push((controller, why)),
            }
        }
        // Several controllers may share a group, so unused ones are removed only now.
        for dir in tried.iter().filter(|dir| places.iter().all(|(_, place)| place.dir != **dir)) {
            let _ = fs::remove_dir(dir);
        }
        let mut parent = Self { places, is_memory_bounded: false, common: None };
        parent.is_memory_bounded = memory.is_some_and(|memory| parent.bound_memory(memory));
        if parent.is_memory_bounded {
            parent.common = parent.open_common();
        }
        parent.set_cpu_weight(cpu_milli);
        (parent, refused)
    }

    /// Creates a parent without controllers.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self { places: Vec::new(), is_memory_bounded: false, common: None }
    }

    pub(super) fn place(&self, controller: Controller) -> Option<&ParentPlace> {
        self.places.iter().find(|(found, _)| *found == controller).map(|(_, place)| place)
    }

    pub(super) fn dirs(&self) -> BTreeSet<&Path> {
        self.places.iter().map(|(_, place)| &*place.dir).collect()
    }

    /// Moves the calling thread back into the original group of this process.
    pub(super) fn enter_original_group(&self, controller: Controller) -> io::Result<()> {
        match self.place(controller).and_then(|place| place.home.as_ref()) {
            Some(home) => home.write_at(b"0", 0).map(drop),
            None => Ok(()),
        }
    }

    fn open_common(&self) -> Option<Common> {
        let place = self.place(Controller::Memory).filter(|place| place.version == Version::V1)?;
        let tasks = OpenOptions::new().write(true).open(place.dir.join("tasks")).ok()?;
        let kills = File::open(place.dir.join("memory.oom_control")).ok()?;
        Some(Common { tasks, kills })
    }

    /// Limits the total memory of all attempts. Returns whether it is enforced.
    fn bound_memory(&self, bytes: u64) -> bool {
        let Some(place) = self.place(Controller::Memory) else { return false };
        let file = match place.version {
            Version::V1 => "memory.limit_in_bytes",
            Version::V2 => "memory.max",
        };
        let written = fs::write(place.dir.join(file), bytes.to_string());
        if let Err(error) = &written {
            tracing::warn!(%error, "the total memory of attempts is not limited");
        }
        written.is_ok()
    }

    /// Sets the CPU weight of all attempts together to their total capacity.
    fn set_cpu_weight(&self, cpu_milli: u64) {
        let Some(place) = self.place(Controller::Cpu) else { return };
        let (file, value) = match place.version {
            Version::V1 => ("cpu.shares", shares(cpu_milli)),
            Version::V2 => ("cpu.weight", weight(cpu_milli)),
        };
        if let Err(error) = fs::write(place.dir.join(file), value.to_string()) {
            tracing::warn!(%error, "the total CPU weight of attempts cannot be set");
        }
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        for dir in self.dirs() {
            sweep::clear(dir);
        }
    }
}

fn make(controller: Controller, place: &Place, name: &str) -> Result<ParentPlace, String> {
    let base = base(&place.dir);
    let dir = base.join(name);
    let wrap = |path: &Path, error: io::Error| format!("{}: {}", path.display(), words(error));
    clear_old(base);
    match fs::create_dir(&dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(wrap(&dir, error));
        }
        Ok(()) | Err(_) => {}
    }
    let made = match place.version {
        Version::V1 => {
            // Otherwise limits would not apply to child groups.
            let hierarchy = dir.join("memory.use_hierarchy");
            if controller == Controller::Memory && hierarchy.exists() {
                let _ = fs::write(&hierarchy, "1");
            }
            let home = place.dir.join("tasks");
            let opened = OpenOptions::new().write(true).open(&home);
            opened.map(Some).map_err(|error| wrap(&home, error))
        }
        Version::V2 => enable_in_child(controller, place, base, &dir).map(|()| None),
    };
    made.map(|home| ParentPlace { version: place.version, dir, home })
}

fn clear_old(base: &Path) {
    let is_ours = |dir: &PathBuf| {
        dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX))
    };
    let n_killed = sweep::clear_stale(sweep::children(base).into_iter().filter(is_ours));
    if n_killed > 0 {
        tracing::warn!(n_killed, "killed processes in control groups that an earlier boot left");
    }
}

/// Version 2: enables a controller for the groups of attempts.
fn enable_in_child(
    controller: Controller,
    place: &Place,
    base: &Path,
    dir: &Path,
) -> Result<(), String> {
    let control = base.join("cgroup.subtree_control");
    if enable(&control, controller).is_err() {
        // A group with enabled controllers must not contain processes, unless it is the root.
        move_processes_to_leaf(place, base)
            .map_err(|error| format!("{}: {}", base.display(), words(error)))?;
        enable(&control, controller).map_err(|error| match error.kind() {
            io::ErrorKind::ResourceBusy => {
                move_from_leaf(base);
                format!("{} is shared with other processes", base.display())
            }
            _ => format!("{}: {}", control.display(), words(error)),
        })?;
    }
    let control = dir.join("cgroup.subtree_control");
    enable(&control, controller).map_err(|error| format!("{}: {}", control.display(), words(error)))
}

fn enable(control: &Path, controller: Controller) -> io::Result<()> {
    let word = match controller {
        Controller::Memory => "memory",
        Controller::Pids => "pids",
        Controller::Cpu => "cpu",
    };
    let enabled = fs::read_to_string(control)?;
    if enabled.split_ascii_whitespace().any(|enabled| enabled == word) {
        return Ok(());
    }
    fs::write(control, format!("+{word}"))
}

/// Moves this process out of the parent group. If that group is the root of the visible hierarchy,
/// such as in a container, moves all other processes too.
fn move_processes_to_leaf(place: &Place, base: &Path) -> io::Result<()> {
    if !base.join("cgroup.type").exists() {
        // The real root of the hierarchy, which may contain processes.
        return Ok(());
    }
    let leaf = base.join(LEAF);
    match fs::create_dir(&leaf) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let cgroup_procs = leaf.join("cgroup.procs");
    if place.is_top {
        for pid in sweep::processes(base) {
            // An error means that the process has ended.
            let _ = fs::write(&cgroup_procs, pid.as_raw_pid().to_string());
        }
    }
    fs::write(&cgroup_procs, "0")
}

fn move_from_leaf(base: &Path) {
    // If this fails, the process stays in the leaf, which is harmless.
    if fs::write(base.join("cgroup.procs"), "0").is_ok() {
        let _ = fs::remove_dir(base.join(LEAF));
    }
}
