//! The embedded store survives the death of its process.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::{Fixture, P0, Watched, cluster, owner, read_all};
use kahn_core::log::Head;
use kahn_store::{Claim, Durability, EmbeddedStore, StoreError};

/// Set for the process that will be killed: the directory of its store.
const DIR: &str = "KAHN_TEST_CRASH_DIR";

/// Returns the payload of a batch of the writing process.
fn payload(seq: u64) -> String {
    format!("batch {seq} {}", "x".repeat(usize::try_from(seq % 5000).unwrap()))
}

/// Appends forever and prints what is committed.
async fn write_for_ever(dir: OsString) {
    let store = EmbeddedStore::open(Path::new(&dir), cluster(4), Durability::Process).unwrap();
    let store: std::sync::Arc<dyn kahn_store::LogStore> = std::sync::Arc::new(store);
    let acquired = store.acquire(P0, &owner(1), Claim::IfFree).await.unwrap();
    let mut watched = Watched::spawn(&store, acquired);
    for seq in acquired.head.seq + 1.. {
        watched.push(payload(seq));
        watched.committed(seq).await;
        let mut out = std::io::stdout().lock();
        writeln!(out, "\ncommitted {seq}").unwrap();
        out.flush().unwrap();
    }
}

fn start_writer(dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "embedded_crash::a_killed_process_loses_nothing", "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Reads the writer's output until it has committed `n` batches, and returns the last one.
fn wait_for_commits(writer: &mut Child, n: usize) -> u64 {
    let lines = BufReader::new(writer.stdout.as_mut().unwrap()).lines();
    let mut seqs = lines.filter_map(|line| line.unwrap().strip_prefix("committed ")?.parse().ok());
    seqs.nth(n).unwrap()
}

#[tokio::test]
async fn a_killed_process_loses_nothing() {
    if let Some(dir) = std::env::var_os(DIR) {
        return write_for_ever(dir).await;
    }
    let dir = tempfile::tempdir().unwrap();
    for round in 1..=5_u64 {
        let mut writer = start_writer(dir.path());
        let committed = wait_for_commits(&mut writer, 40);
        let second = EmbeddedStore::open(dir.path(), cluster(4), Durability::Process).unwrap_err();
        assert!(matches!(second, StoreError::InUse(_)), "{second}");
        assert!(second.to_string().contains("in use by another process"), "{second}");
        writer.kill().unwrap();
        writer.wait().unwrap();
        let store = EmbeddedStore::open(dir.path(), cluster(4), Durability::Process).unwrap();
        let entries = read_all(&store, Head::GENESIS).await;
        let n_entries = u64::try_from(entries.len()).unwrap();
        assert!(committed <= n_entries, "round {round}: {committed} committed, {n_entries} found");
        for (seq, entry) in (1..).zip(entries) {
            assert_eq!(entry, payload(seq));
        }
    }
}

#[tokio::test]
async fn a_second_handle_in_the_same_process_is_refused() {
    let fixture = Fixture::embedded(Durability::Disk);
    let store = fixture.open().await;
    assert!(matches!(fixture.try_open(4).await, Err(StoreError::InUse(_))));
    drop(store);
    fixture.open().await;
}

#[test]
fn an_embedded_store_promises_only_what_it_can() {
    let dir = tempfile::tempdir().unwrap();
    for level in [Durability::Ephemeral, Durability::Replicated] {
        let refused = EmbeddedStore::open(dir.path(), cluster(1), level).unwrap_err();
        assert!(matches!(refused, StoreError::BadConfig(_)), "{refused}");
    }
}
