//! Confinement of containers, and refused requests of tasks.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use kahn_model::{CauseKind, Mount, Port, Text};

use crate::support::{Network, Worker, fails_with, prog};

fn line<'a>(log: &'a str, start: &str) -> &'a str {
    log.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}: {log}"))
}

fn mount(source: &std::path::Path, target: &str, is_writable: bool) -> Mount {
    Mount { source: Text::new(source.to_str().unwrap()), target: target.into(), is_writable }
}

#[tokio::test]
async fn a_container_has_no_rights_no_network_and_nothing_to_write_to() {
    let Some(worker) = Worker::new().await else { return };
    let log = worker.run(prog(&["look"])).await.log;
    assert_eq!(line(&log, "uid="), "uid=65532 gid=65532");
    assert_eq!(line(&log, "root="), "root=no tmp=yes");
    assert_eq!(line(&log, "NoNewPrivs:"), "NoNewPrivs:\t1");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert!(line(&log, set).ends_with("\t0000000000000000"), "{log}");
    }
    // The first process is an init that reaps orphans.
    assert!(!line(&log, "pid=").starts_with("pid=1 "));
    let interfaces: Vec<_> = log.lines().filter(|line| line.contains(": ")).collect();
    let interfaces: Vec<_> =
        interfaces.iter().filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect();
    assert!(interfaces.iter().any(|name| name.trim() == "lo"), "{log}");
    assert!(!interfaces.iter().any(|name| name.trim().starts_with("eth")), "{log}");
}

#[tokio::test]
async fn a_task_may_name_another_user_but_not_root() {
    let Some(worker) = Worker::new().await else { return };
    let mut other = prog(&["look"]);
    other.user = Some("1234".into());
    assert_eq!(line(&worker.run(other).await.log, "uid="), "uid=1234 gid=1234");
    for root in ["0", "0:0", "00:7"] {
        let mut container = prog(&["look"]);
        container.user = Some(root.into());
        let ended = worker.run(container).await;
        fails_with(&ended, CauseKind::Policy, &["root", "worker.container.allow_root"]);
        assert!(!ended.was_started);
    }
    let Some(worker) = Worker::with(|settings| settings.allow_root = true).await else { return };
    let mut root = prog(&["look"]);
    root.user = Some("0:0".into());
    let log = worker.run(root).await.log;
    assert_eq!(line(&log, "uid="), "uid=0 gid=0");
    assert!(line(&log, "CapEff:").ends_with("\t0000000000000000"), "{log}");
}

#[tokio::test]
async fn only_allowed_directories_are_mounted() {
    let dir = tempfile::tempdir().unwrap();
    let (open, closed) = (dir.path().join("open"), dir.path().join("closed"));
    for dir in [&open, &closed] {
        std::fs::create_dir(dir).unwrap();
        std::fs::write(dir.join("file"), "precious\n").unwrap();
    }
    std::os::unix::fs::symlink(&closed, open.join("link")).unwrap();
    let allowed = open.clone();
    let Some(worker) = Worker::with(|settings| settings.mounts = vec![allowed]).await else {
        return;
    };
    let mut container = prog(&["files", "/data/file", "/data/new"]);
    container.mounts = vec![mount(&open, "/data", false)];
    let log = worker.run(container).await.log;
    assert_eq!(log, "/data/file write=no: precious\n/data/new write=no: no /data/new\n");

    let writable = open.join("writable");
    std::fs::create_dir(&writable).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(&writable, mode).unwrap();
    let mut container = prog(&["files", "/data/new"]);
    container.mounts = vec![mount(&writable, "/data", true)];
    assert_eq!(worker.run(container).await.log, "/data/new write=yes: ");

    for source in [closed.clone(), open.join("link"), open.join("../closed")] {
        let mut container = prog(&["files", "/data/file"]);
        container.mounts = vec![mount(&source, "/data", false)];
        let ended = worker.run(container).await;
        let named = source.to_str().unwrap();
        fails_with(&ended, CauseKind::Policy, &[named, "worker.container.mounts"]);
        assert_eq!((ended.was_started, &*ended.log), (false, ""));
    }
    assert_eq!((worker.n_left().await, worker.n_directories()), (0, 0));
}

#[tokio::test]
async fn no_directory_may_be_mounted_unless_the_operator_says_so() {
    let Some(worker) = Worker::new().await else { return };
    let mut container = prog(&["files", "/data"]);
    container.mounts = vec![mount(worker.dir(), "/data", false)];
    fails_with(&worker.run(container).await, CauseKind::Policy, &["worker.container.mounts"]);
}

#[tokio::test]
async fn a_port_is_reached_where_the_log_says() {
    let Some(network) = Network::new().await else { return };
    let name = network.name().to_owned();
    let Some(worker) = Worker::with(|settings| settings.network = name).await else { return };
    let mut container = prog(&["serve", "8080"]);
    container.ports = vec![Port { container: 8080, host: 0 }];
    let assignment = worker.assignment(container);
    let mut running = worker.start(assignment);
    let log = running.printed("up\n").await;
    let place = line(&log, "[kahn] port 8080/tcp is at ").rsplit(' ').next().unwrap().to_owned();
    assert!(place.starts_with("127.0.0.1:"), "{log}");
    let call = move || {
        let mut answer = String::new();
        let mut stream = std::net::TcpStream::connect(place).unwrap();
        std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
        answer
    };
    assert_eq!(tokio::task::spawn_blocking(call).await.unwrap(), "served\n");
    assert!(running.ended().await.report.outcome.is_ok());
    network.remove().await;
}

#[tokio::test]
async fn a_port_without_a_network_is_refused() {
    let Some(worker) = Worker::new().await else { return };
    let mut container = prog(&["say"]);
    container.ports = vec![Port { container: 80, host: 0 }];
    fails_with(&worker.run(container).await, CauseKind::Policy, &["worker.container.network"]);
}
