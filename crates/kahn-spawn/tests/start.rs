//! The environment of a started program, and the errors of failed starts.

use std::ffi::OsStr;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use kahn_spawn::{Launcher, NotStarted, PreExecLimits, Program, Reaped, WithNul, reap};

const LONG: Duration = Duration::from_secs(20);

fn program(argv: &[&str], env: &[(&str, &str)], dir: &Path) -> Program {
    let env = env.iter().map(|(name, value)| (OsStr::new(*name), OsStr::new(*value)));
    Program::new(argv[0].as_ref(), argv.iter().map(OsStr::new), env, dir).expect("no NUL")
}

fn reason(error: NotStarted) -> io::Error {
    match error {
        NotStarted::Limits(error) | NotStarted::Program(error) => error,
    }
}

/// Starts a program, reads its output, and reaps it.
fn run(launcher: &mut Launcher, program: &Program) -> io::Result<(String, Reaped)> {
    let (mut reader, writer) = io::pipe()?;
    let child =
        launcher.start(program, writer.as_fd(), &PreExecLimits::default()).map_err(reason)?;
    drop(writer);
    let mut printed = String::new();
    reader.read_to_string(&mut printed)?;
    assert!(child.has_ended_within(LONG)?);
    Ok((printed, reap(child.pid())?))
}

fn sh(script: &str) -> (String, Reaped) {
    let program = program(&["/bin/sh", "-c", script], &[("PATH", "/bin:/usr/bin")], "/".as_ref());
    let mut launcher = Launcher::new().expect("a launcher");
    run(&mut launcher, &program).expect("a run")
}

#[test]
fn a_program_finds_its_arguments_its_environment_and_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let script = "echo \"$0|$1|$A|$HOME\"; pwd -P; env | grep -c =; cat; echo bad >&2";
    let argv = ["/bin/sh", "-c", script, "name", "an 'argument'"];
    let env = [("A", "a=b"), ("PATH", "/bin:/usr/bin"), ("PWD", "/")];
    let program = program(&argv, &env, dir.path());
    let (printed, reaped) = run(&mut Launcher::new().unwrap(), &program).unwrap();
    let here = dir.path().canonicalize().unwrap();
    // Many shells set `_`.
    let printed: Vec<&str> = printed.lines().collect();
    assert_eq!(printed[0], "name|an 'argument'|a=b|");
    assert_eq!(printed[1], here.display().to_string());
    assert!(["3", "4", "5"].contains(&printed[2]), "{printed:?}");
    assert_eq!(printed[3..], ["bad"]);
    assert!(reaped.status.success());
}

#[test]
fn a_program_leads_its_own_group() {
    let (printed, _) = sh("echo $$; ps -o pgid= -p $$ 2>/dev/null || cut -d' ' -f5 /proc/$$/stat");
    let numbers: Vec<&str> = printed.split_whitespace().collect();
    assert_eq!(numbers[0], numbers[1]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_program_handles_signals_as_the_system_does_by_itself() {
    let program = program(&["/bin/cat", "/proc/self/status"], &[], "/".as_ref());
    let (printed, _) = run(&mut Launcher::new().unwrap(), &program).unwrap();
    let mask = |name: &str| {
        let line = printed.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    assert_eq!(mask("SigBlk:"), 0);
    // The Rust runtime ignores SIGPIPE, but the program must not.
    assert_eq!(mask("SigIgn:") & (1 << (13 - 1)), 0);
    assert_eq!(mask("SigCgt:"), 0);
}

#[test]
fn an_end_by_exit_code_or_by_signal_is_told() {
    use std::os::unix::process::ExitStatusExt as _;
    assert_eq!(sh("exit 7").1.status.code(), Some(7));
    assert_eq!(sh("kill -9 $$").1.status.signal(), Some(9));
}

#[test]
fn processor_time_and_memory_are_told() {
    let (_, reaped) = sh("i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done");
    assert!(Duration::ZERO < reaped.user + reaped.system);
    assert!((1 << 16..1 << 40).contains(&reaped.memory_peak), "{reaped:?}");
}

#[test]
fn what_a_child_prints_ends_the_wait_for_it() {
    let program = program(&["/bin/sh", "-c", "echo; exec sleep 5"], &[], "/".as_ref());
    let (reader, writer) = io::pipe().unwrap();
    let child = Launcher::new()
        .unwrap()
        .start(&program, writer.as_fd(), &PreExecLimits::default())
        .unwrap();
    child.wait_for_end_or_input(reader.as_fd(), LONG).unwrap();
    assert!(!child.has_ended_within(Duration::ZERO).unwrap());
    rustix::process::kill_process(child.pid(), rustix::process::Signal::KILL).unwrap();
    let (silent, _open) = io::pipe().unwrap();
    child.wait_for_end_or_input(silent.as_fd(), LONG).unwrap();
    assert!(child.has_ended_within(Duration::ZERO).unwrap());
    assert!(reap(child.pid()).is_ok());
}

#[test]
fn a_child_is_waited_for_no_longer_than_asked() {
    let program = program(&["/bin/sleep", "60"], &[], "/".as_ref());
    let (_reader, writer) = io::pipe().unwrap();
    let child = Launcher::new()
        .unwrap()
        .start(&program, writer.as_fd(), &PreExecLimits::default())
        .unwrap();
    assert!(!child.has_ended_within(Duration::from_millis(5)).unwrap());
    rustix::process::kill_process(child.pid(), rustix::process::Signal::KILL).unwrap();
    assert!(child.has_ended_within(LONG).unwrap());
    // The result does not change.
    assert!(child.has_ended_within(Duration::ZERO).unwrap());
    assert!(reap(child.pid()).is_ok());
    assert!(reap(child.pid()).is_err());
}

#[test]
fn what_cannot_be_started_is_told_and_leaves_no_process() {
    let mut launcher = Launcher::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text");
    std::fs::write(&text, "x").unwrap();
    let start = |launcher: &mut Launcher, path: &str, dir: &str| {
        let program = program(&[path], &[], dir.as_ref());
        let (_reader, writer) = io::pipe().unwrap();
        let started = launcher.start(&program, writer.as_fd(), &PreExecLimits::default());
        reason(started.unwrap_err()).kind()
    };
    assert_eq!(start(&mut launcher, "/no/such/program", "/"), io::ErrorKind::NotFound);
    assert_eq!(start(&mut launcher, "/bin/true", "/no/such/dir"), io::ErrorKind::NotFound);
    let text = text.display().to_string();
    assert_eq!(start(&mut launcher, &text, "/"), io::ErrorKind::PermissionDenied);
    // The launcher still works after an error.
    let program = program(&["/bin/true"], &[], "/".as_ref());
    assert!(run(&mut launcher, &program).unwrap().1.status.success());
}

#[test]
fn a_nul_is_refused() {
    let root: &Path = "/".as_ref();
    let with = |argument, name, value| {
        let env = [(OsStr::new(name), OsStr::new(value))];
        Program::new(root, [OsStr::new(argument)], env, root).map(|_| ())
    };
    assert_eq!(with("a", "b", "c"), Ok(()));
    assert_eq!(with("a\0", "b", "c"), Err(WithNul));
    assert_eq!(with("a", "b\0", "c"), Err(WithNul));
    assert_eq!(with("a", "b", "\0c"), Err(WithNul));
    assert!(Program::new("/\0".as_ref(), [], [], root).is_err());
}

#[test]
fn threads_start_programs_at_the_same_time() {
    thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || {
                let mut launcher = Launcher::new().unwrap();
                for round in 0..50 {
                    let said = format!("{number} {round}");
                    let program = program(&["/bin/echo", &said], &[], "/".as_ref());
                    let (printed, reaped) = run(&mut launcher, &program).unwrap();
                    assert_eq!((printed.trim(), reaped.status.code()), (&*said, Some(0)));
                }
            });
        }
    });
}

#[test]
fn a_process_applies_its_limits_to_itself() {
    let limits =
        PreExecLimits { address_space: Some(1 << 30), processes: Some(9999), ..Default::default() };
    let script = "ulimit -v; ulimit -u 2>/dev/null || ulimit -p";
    let program = program(&["/bin/sh", "-c", script], &[], "/".as_ref());
    let (mut reader, writer) = io::pipe().unwrap();
    let mut launcher = Launcher::new().unwrap();
    let child = launcher.start(&program, writer.as_fd(), &limits).unwrap();
    drop(writer);
    let mut printed = String::new();
    reader.read_to_string(&mut printed).unwrap();
    assert!(reap(child.pid()).unwrap().status.success());
    assert_eq!(printed, "1048576\n9999\n");
}

#[cfg(target_os = "linux")]
#[test]
fn what_enters_a_group_says_so_there_and_what_cannot_does_not_run() {
    let dir = tempfile::tempdir().unwrap();
    let (cgroup_procs, ran) = (dir.path().join("cgroup_procs"), dir.path().join("ran"));
    let program = program(&["/bin/mkdir", ran.to_str().unwrap()], &[], "/".as_ref());
    let (_reader, writer) = io::pipe().unwrap();
    let mut launcher = Launcher::new().unwrap();
    let file = std::fs::File::create(&cgroup_procs).unwrap();
    let limits = PreExecLimits { cgroup_procs: Some(file.as_fd()), ..Default::default() };
    let child = launcher.start(&program, writer.as_fd(), &limits).unwrap();
    assert!(reap(child.pid()).unwrap().status.success());
    assert_eq!(std::fs::read_to_string(&cgroup_procs).unwrap(), "0");

    std::fs::remove_dir(&ran).unwrap();
    // Opened read-only, so that writing fails.
    let file = std::fs::File::open(&cgroup_procs).unwrap();
    let limits = PreExecLimits { cgroup_procs: Some(file.as_fd()), ..Default::default() };
    let failed = launcher.start(&program, writer.as_fd(), &limits).unwrap_err();
    assert!(matches!(failed, NotStarted::Limits(_)), "{failed}");
    assert!(!ran.exists());
}
