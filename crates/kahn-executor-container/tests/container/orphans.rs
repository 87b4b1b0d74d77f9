//! Containers of dead workers.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use kahn_executor_container::ContainerExecutor;
use kahn_model::WorkerId;
use std::time::Duration;

use crate::support::{Worker, n_containers, prog, settings, socket};

/// Returns a worker that was killed while a container ran.
fn killed() -> Option<Worker> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let worker = runtime.block_on(Worker::new())?;
    runtime.block_on(async {
        let assignment = worker.assignment(prog(&["stay-stubbornly"]));
        let mut _running = worker.start(assignment);
        _running.printed("up\n").await;
        assert_eq!(worker.n_left().await, 1);
    });
    // Stops all its work immediately.
    drop(runtime);
    Some(worker)
}

fn open(worker: &str, dir: &std::path::Path) -> ContainerExecutor {
    let settings = settings(&socket().unwrap());
    let worker: WorkerId = worker.parse().unwrap();
    ContainerExecutor::open(settings, &worker, dir, Duration::from_secs(1)).unwrap()
}

fn n_left(worker: &str) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(n_containers(&socket().unwrap(), worker))
}

#[test]
fn the_next_boot_of_a_worker_removes_what_it_left() {
    let Some(worker) = killed() else { return };
    let (dir, name, settings) = worker.into_parts();
    assert_eq!(n_left(&name), 1);
    let worker = Worker::open(dir, name, settings);
    assert_eq!((n_left(worker.name()), worker.n_directories()), (0, 0));
}

#[test]
fn a_worker_leaves_alone_what_others_of_its_name_run_until_they_are_gone() {
    let Some(worker) = killed() else { return };
    let elsewhere = tempfile::tempdir().unwrap();
    let name = worker.name().to_owned();
    let _another = open("somebody-else", &elsewhere.path().join("a"));
    // Still locks its directory.
    let _namesake = open(&name, &elsewhere.path().join("b"));
    assert_eq!(n_left(&name), 1);
    let (_dir, ..) = worker.into_parts();
    let _namesake = open(&name, &elsewhere.path().join("c"));
    assert_eq!(n_left(&name), 0);
}

#[test]
fn no_engine_is_said_with_the_place_where_it_was_looked_for() {
    let dir = tempfile::tempdir().unwrap();
    let worker: WorkerId = "worker".parse().unwrap();
    let nowhere = dir.path().join("no.sock");
    let open = |socket: &std::path::Path| {
        let settings = settings(socket);
        let error = ContainerExecutor::open(settings, &worker, dir.path(), Duration::ZERO);
        error.unwrap_err().to_string()
    };
    assert!(open(&nowhere).contains("no.sock is not there"), "{}", open(&nowhere));
    let deaf = dir.path().join("deaf.sock");
    drop(std::os::unix::net::UnixListener::bind(&deaf).unwrap());
    assert!(open(&deaf).contains("deaf.sock"), "{}", open(&deaf));
}
