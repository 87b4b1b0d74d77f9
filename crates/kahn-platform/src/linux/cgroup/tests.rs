//! Tests of written files in a temporary directory, and with a real group of version 2.

use std::os::fd::AsFd as _;

use super::*;

fn part(dir: &Path, controller: Controller, version: Version) -> Part {
    for file in ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.max", "cpu.max"] {
        fs::write(dir.join(file), "").unwrap();
    }
    for file in ["cpu.shares", "cpu.weight", "cpu.cfs_period_us", "cpu.cfs_quota_us"] {
        fs::write(dir.join(file), "").unwrap();
    }
    let kills = match version {
        Version::V1 => "memory.oom_control",
        Version::V2 => "memory.events",
    };
    let kills = File::open(dir.join(kills)).ok();
    Part { controller, version, dir: dir.to_owned(), tasks: None, current: None, kills }
}

fn text(dir: &Path, file: &str) -> String {
    // A real control file receives each write separately; in a regular file the last one overwrites
    // the start.
    fs::read_to_string(dir.join(file)).unwrap()
}

#[test]
fn a_share_of_the_processors_is_written_as_each_version_has_it() {
    for (version, share, expected) in [
        (Version::V1, Share::Weight(1500), vec![("cpu.shares", "1536")]),
        (Version::V1, Share::Weight(0), vec![("cpu.shares", "2")]),
        (
            Version::V1,
            Share::Quota(1500),
            vec![("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "150000")],
        ),
        (Version::V2, Share::Weight(1500), vec![("cpu.weight", "150")]),
        (Version::V2, Share::Weight(u64::MAX), vec![("cpu.weight", "10000")]),
        (Version::V2, Share::Quota(250), vec![("cpu.max", "25000 100000")]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        part(dir.path(), Controller::Cpu, version).limit_cpu(share).unwrap();
        for (file, value) in expected {
            assert_eq!(text(dir.path(), file), value, "{version:?} {share:?} {file}");
        }
    }
}

#[test]
fn memory_is_written_as_each_version_has_it() {
    let dir = tempfile::tempdir().unwrap();
    part(dir.path(), Controller::Memory, Version::V1).limit_memory(Some(4096), None).unwrap();
    assert_eq!(text(dir.path(), "memory.limit_in_bytes"), "4096");
    assert_eq!(text(dir.path(), "memory.memsw.limit_in_bytes"), "4096");
    part(dir.path(), Controller::Memory, Version::V2).limit_memory(Some(4096), None).unwrap();
    assert_eq!(text(dir.path(), "memory.max"), "4096");
    part(dir.path(), Controller::Memory, Version::V2).limit_memory(None, Some(1)).unwrap();
    assert!(text(dir.path(), "memory.max").starts_with("max"));
}

#[test]
fn memory_kills_are_counted_from_the_file_of_each_version() {
    let dir = tempfile::tempdir().unwrap();
    let group = |version| {
        let part = part(dir.path(), Controller::Memory, version);
        Group::new(vec![part], Arc::new(Parent::none()))
    };
    fs::write(dir.path().join("memory.oom_control"), "under_oom 0\noom_kill 3\n").unwrap();
    fs::write(dir.path().join("memory.events"), "oom 9\noom_kill 7\noom_group_kill 1\n").unwrap();
    // Dropping the group does not remove the directory, since it is not empty.
    assert_eq!(group(Version::V1).n_memory_kills(), 3);
    assert_eq!(group(Version::V2).n_memory_kills(), 7);
}

/// Creates a group of version 2 without controllers, if this process may.
fn real_group_2() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"))?;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap();
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let dir = Path::new(mount.split(' ').nth(1)?).join(own).join(sweep::name("test-v2", 0));
    fs::create_dir(&dir).ok().map(|()| dir)
}

#[test]
fn a_process_enters_a_group_of_version_2_and_dies_with_all_that_is_in_it() {
    let Some(dir) = real_group_2() else {
        eprintln!("NOT RUN: no control group of version 2 may be made here");
        return;
    };
    let part = Part {
        controller: Controller::Pids,
        version: Version::V2,
        dir: dir.clone(),
        tasks: None,
        current: None,
        kills: None,
    };
    let mut group = Group::new(vec![part], Arc::new(Parent::none()));
    assert!(group.is_empty());
    let script = "setsid env -i /bin/sh -c '/usr/bin/setsid /bin/sleep 1000 & exit'; echo \"$1\"; sleep 1000";
    let argv = ["/bin/sh", "-c", script, "name", "a $(b) 'c'"].map(std::ffi::OsStr::new);
    let program = kahn_spawn::Program::new("/bin/sh".as_ref(), argv, [], "/".as_ref()).unwrap();
    let limits = crate::PreExecLimits { cgroup_procs: group.cgroup_procs(), ..Default::default() };
    let cgroup_procs = limits.open_cgroup_procs().unwrap();
    let (reader, writer) = io::pipe().unwrap();
    let child = kahn_spawn::Launcher::new()
        .unwrap()
        .start(&program, writer.as_fd(), &limits.for_launcher(cgroup_procs.as_ref()))
        .unwrap();
    let mut line = String::new();
    io::BufRead::read_line(&mut io::BufReader::new(reader), &mut line).unwrap();
    assert_eq!(line, "a $(b) 'c'\n");
    // The shell, its child, and the daemon.
    assert!(!group.is_empty() && processes(&dir).len() >= 2);
    let of_child =
        fs::read_to_string(format!("/proc/{}/cgroup", child.pid().as_raw_pid())).unwrap();
    assert!(of_child.contains("kahn-test-v2"), "{of_child}");
    while !group.is_empty() {
        group.kill();
        std::thread::sleep(std::time::Duration::from_millis(1)); // poll
    }
    assert!(!kahn_spawn::reap(child.pid()).unwrap().status.success());
    drop(group);
    assert!(!dir.exists());
}
