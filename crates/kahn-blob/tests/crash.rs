//! A process that writes to a directory is killed: what it leaves are whole objects only.

use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use kahn_blob::{BlobStore, Key, Settings};

/// Names the directory to write to, in the process that will be killed.
const CHILD: &str = "KAHN_BLOB_TEST_DIRECTORY";
const SIZE: usize = 1 << 20;

/// Writes objects until the process is killed, if this is that process.
#[tokio::test]
async fn writer() {
    let Some(dir) = std::env::vars_os().find(|(name, _)| name == CHILD) else { return };
    let store = BlobStore::open(&Settings::new(dir.1.into_string().unwrap())).unwrap();
    for n in 0..u32::MAX {
        let object = Key::new(format!("logs/{}", n % 8)).unwrap();
        let byte = u8::try_from(n % 251).unwrap();
        store.put(&object, Bytes::from(vec![byte; SIZE])).await.unwrap();
    }
}

#[tokio::test]
async fn a_killed_writer_leaves_no_half_written_object() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display().to_string();
    let store = BlobStore::open(&Settings::new(&*path)).unwrap();
    let group = Key::new("logs").unwrap();
    for round in 0..5 {
        let old = store.list(&group).await.unwrap().into_iter().map(|entry| entry.key).collect();
        store.remove_all(old).await.unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer"])
            .env(CHILD, &path)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let since = tokio::time::Instant::now();
        // A different moment of its work in each round.
        while store.list(&group).await.unwrap().len() <= round {
            assert!(since.elapsed() < Duration::from_secs(30), "the process writes nothing");
            tokio::time::sleep(Duration::from_millis(5)).await; // poll
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for entry in store.list(&group).await.unwrap() {
            let object = store.get(&entry.key).await.unwrap().unwrap();
            assert_eq!((entry.size, object.len()), (u64::try_from(SIZE).unwrap(), SIZE));
            assert!(object.iter().all(|byte| *byte == object[0]), "{} is torn", entry.key);
        }
    }
}
