//! Upgrades from an earlier version, whose binary `KAHN_OLD_BIN` names: see `cargo xtask upgrade`.
//! Without it, nothing is run.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kahn_e2e::{Coordinators, History, Part, Programs, Work, kahn_path, wait_until};

/// How long to wait for anything that is not measured.
const TIMEOUT: Duration = Duration::from_secs(180);

/// Returns the binaries of the earlier version and of this one.
#[expect(clippy::print_stdout, reason = "says that a test was not run")]
fn versions() -> Option<(PathBuf, PathBuf)> {
    let old = std::env::var_os("KAHN_OLD_BIN").map(PathBuf::from);
    let Some(old) = old else {
        println!("NOT RUN: KAHN_OLD_BIN is not set; use `cargo xtask upgrade`");
        return None;
    };
    assert!(old.is_file(), "KAHN_OLD_BIN names no file: {}", old.display());
    Some((old, kahn_path()))
}

fn start(n: usize, coordinators: &Path, workers: &Path) -> anyhow::Result<Coordinators> {
    let (coordinators, workers) = (coordinators.to_owned(), workers.to_owned());
    Coordinators::start_with_programs(n, 3, Programs { coordinators, workers })
}

/// Lets two versions work together until a run has ended, with a worker that restarts meanwhile.
fn check_together(coordinator: &Path, worker: &Path) -> anyhow::Result<()> {
    let mut cluster = start(1, coordinator, worker)?;
    let work = Work::submit(&cluster)?;
    work.wait_until_ended(&cluster, 60)?;
    // The worker reports what it has kept, and output is sent again.
    cluster.kill9(Part::Coordinator(0))?;
    cluster.restart(Part::Coordinator(0))?;
    cluster.wait_for_role(0, "leader")?;
    work.cancel_other(&cluster)?;
    work.wait_until_ended(&cluster, 150)?;
    replace_worker(&mut cluster, 0, worker)?;
    work.check_end(&cluster)
}

fn replace_coordinator(cluster: &mut Coordinators, ix: usize, by: &Path) -> anyhow::Result<()> {
    let part = Part::Coordinator(ix);
    cluster.signal(part, "TERM")?;
    assert_eq!(cluster.wait_for_exit(ix)?, 0, "{}", cluster.printed());
    cluster.set_program(part, by);
    cluster.restart(part)?;
    wait_until("the coordinator to be ready", TIMEOUT, || {
        cluster.has_role(ix, "standby") || cluster.has_role(ix, "leader")
    })
}

/// Lets a worker finish what it holds, and starts another version with its data.
fn replace_worker(cluster: &mut Coordinators, ix: usize, by: &Path) -> anyhow::Result<()> {
    let part = Part::Worker(ix);
    cluster.signal(part, "TERM")?;
    wait_until("the worker to finish", TIMEOUT, || !cluster.is_running(part))?;
    cluster.set_program(part, by);
    cluster.restart(part)
}

#[test]
fn workers_of_the_earlier_version_serve_this_coordinator() -> anyhow::Result<()> {
    let Some((old, new)) = versions() else { return Ok(()) };
    check_together(&new, &old)
}

#[test]
fn workers_of_this_version_serve_an_earlier_coordinator() -> anyhow::Result<()> {
    let Some((old, new)) = versions() else { return Ok(()) };
    check_together(&old, &new)
}

#[test]
fn a_cluster_is_upgraded_under_load_and_nothing_is_lost_or_repeated() -> anyhow::Result<()> {
    let Some((old, new)) = versions() else { return Ok(()) };
    let mut cluster = start(3, &old, &old)?;
    let work = Work::submit(&cluster)?;
    for (ix, n_ended) in [30, 60, 90].into_iter().enumerate() {
        work.wait_until_ended(&cluster, n_ended)?;
        replace_coordinator(&mut cluster, ix, &new)?;
    }
    work.cancel_other(&cluster)?;
    for (ix, n_ended) in [120, 150, 180].into_iter().enumerate() {
        work.wait_until_ended(&cluster, n_ended)?;
        replace_worker(&mut cluster, ix, &new)?;
    }
    assert!(!work.has_ended(&cluster), "the load ended before the upgrade");
    work.check_end(&cluster)
}

#[test]
fn a_log_of_the_earlier_version_goes_on_and_the_way_back_works_or_is_refused() -> anyhow::Result<()>
{
    let Some((old, new)) = versions() else { return Ok(()) };
    let mut cluster = start(1, &old, &old)?;
    let early = Work::submit(&cluster)?;
    early.wait_until_ended(&cluster, 60)?;
    let recorded = early.history(&cluster)?;
    replace_coordinator(&mut cluster, 0, &new)?;
    early.cancel_other(&cluster)?;
    early.check_end(&cluster)?;
    let before = early.history(&cluster)?;
    assert!(kinds(&before).starts_with(&kinds(&recorded)), "another past");
    let late = Work::submit(&cluster)?;
    late.wait_until_ended(&cluster, 60)?;

    cluster.signal(Part::Coordinator(0), "TERM")?;
    cluster.wait_for_exit(0)?;
    cluster.set_program(Part::Coordinator(0), &old);
    cluster.restart(Part::Coordinator(0))?;
    wait_until("the earlier version to lead or refuse", TIMEOUT, || {
        cluster.has_role(0, "leader") || !cluster.is_running(Part::Coordinator(0))
    })?;
    if cluster.is_running(Part::Coordinator(0)) {
        println!("the way back: the earlier version reads the log of this one and goes on");
    } else {
        // It must not go on with half of the state: it names the reason, and nothing is lost.
        let printed = cluster.printed();
        assert!(printed.contains("written by a newer version"), "{printed}");
        println!("the way back: the earlier version refuses the log of this one");
        cluster.set_program(Part::Coordinator(0), &new);
        cluster.restart(Part::Coordinator(0))?;
        cluster.wait_for_role(0, "leader")?;
    }
    late.cancel_other(&cluster)?;
    late.check_end(&cluster)?;
    let after = early.history(&cluster)?;
    assert_eq!(kinds(&after), kinds(&before));
    Ok(())
}

fn kinds(history: &History) -> Vec<(u64, &str, &str)> {
    history.0.iter().map(|event| (event.seq, event.kind.as_str(), event.task.as_str())).collect()
}
