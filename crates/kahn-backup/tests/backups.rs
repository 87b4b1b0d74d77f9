//! Backups in a directory and on an S3 server: whole ones, interrupted ones and damaged ones.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, like tests")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kahn_backup::{BackupError, Counts, Manifest, Reader, Source, Writer};
use kahn_blob::testing::S3Server;
use kahn_blob::{BlobStore, Key, Settings};
use kahn_core::log::Head;
use kahn_core::testing::{World, dag};
use kahn_model::Partition;
use kahn_store::{
    Batch, Claim, ClusterId, ClusterMeta, Export, LogStore, MemoryImport, MemoryStore, Owner,
    codec, link,
};

const META: ClusterMeta = ClusterMeta { id: ClusterId(7), partitions: 2 };
const GROUP: &str = "cluster/time";
/// Larger than a part.
const ARGUMENT_BYTES: usize = 20 << 20;

/// Returns a store with a run in partition 0.
async fn cluster() -> Arc<dyn LogStore> {
    let store: Arc<dyn LogStore> = Arc::new(MemoryStore::new(META));
    let mut world = World::new();
    let mut argument = String::with_capacity(ARGUMENT_BYTES);
    while argument.len() < ARGUMENT_BYTES {
        // Pieces of the same content would be stored once.
        argument.push_str(&argument.len().to_string());
    }
    world.submit(&dag().task("a").exec(&["echo", &argument]).task("b").after("a").build());
    let owner = Owner::without_address(1);
    let acquired = store.acquire(Partition(0), &owner, Claim::Force).await.unwrap();
    let payload: Batch = codec::encode_batch(&world.log).into();
    let next = Head { seq: 1, hash: link(Head::GENESIS.hash, &payload.payload) };
    let append = kahn_core::log::Append { send: 1, prev: Head::GENESIS, next, payload };
    store.append(Partition(0), acquired.term, append).await;
    store
}

fn source() -> Source {
    Source { cluster: META.id.to_string(), partitions: META.partitions, version: "1".to_owned() }
}

async fn begin(blobs: &BlobStore) -> Writer {
    let group = Key::new(GROUP).unwrap();
    Writer::begin(blobs.clone(), group, source(), "then".to_owned()).await.unwrap()
}

async fn bytes_of(store: &Arc<dyn LogStore>, partition: Partition) -> Vec<u8> {
    let mut export = Export::begin(Arc::clone(store), partition).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(record) = export.next().await.unwrap() {
        bytes.extend_from_slice(&record.encode());
    }
    bytes
}

/// Writes all partitions, but no manifest.
async fn write_partitions(store: &Arc<dyn LogStore>, blobs: &BlobStore) -> Writer {
    let mut writer = begin(blobs).await;
    for partition in (0..META.partitions).map(Partition) {
        let bytes = bytes_of(store, partition).await;
        // An attempt that did not come to its end is begun again.
        let mut interrupted = writer.partition(&source()).unwrap();
        interrupted.push(&bytes[..bytes.len() / 2]).await.unwrap();
        let mut written = writer.partition(&source()).unwrap();
        for piece in bytes.chunks(100_000) {
            written.push(piece).await.unwrap();
        }
        let info = written.end().await.unwrap();
        writer.add(info);
    }
    writer
}

async fn write(store: &Arc<dyn LogStore>, blobs: &BlobStore) -> Manifest {
    write_partitions(store, blobs).await.finish("now".to_owned()).await.unwrap()
}

/// A directory with a backup.
struct Backup(tempfile::TempDir);

impl Backup {
    async fn new() -> Self {
        let backup = Self(tempfile::tempdir().unwrap());
        write(&cluster().await, &backup.root()).await;
        backup
    }

    fn root(&self) -> BlobStore {
        open(self.0.path())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(GROUP).join(name)
    }

    async fn open(&self) -> Result<Reader, BackupError> {
        Reader::open(open(&self.path(""))).await
    }

    /// Returns the error of a check.
    async fn flaw(&self) -> String {
        let reader = match self.open().await {
            Ok(reader) => reader,
            Err(error) => return error.to_string(),
        };
        let checked = reader.check(|_| {}).await;
        let restored = reader.restore(&MemoryImport::new(META), |_| {}).await;
        assert!(restored.is_err(), "it was restored although it is damaged");
        checked.unwrap_err().to_string()
    }
}

fn open(path: &Path) -> BlobStore {
    BlobStore::open(&Settings::new(path.display().to_string())).unwrap()
}

#[tokio::test]
async fn a_backup_is_read_as_it_was_written() {
    let store = cluster().await;
    let dir = tempfile::tempdir().unwrap();
    let server = S3Server::start(dir.path()).unwrap();
    let s3 = |prefix: &str| BlobStore::open(&server.settings(prefix)).unwrap();
    let files = tempfile::tempdir().unwrap();
    for (root, place) in [
        (s3("backups"), s3(&format!("backups/{GROUP}"))),
        (open(files.path()), open(&files.path().join(GROUP))),
    ] {
        let manifest = write(&store, &root).await;
        let counts = Counts { live_runs: 1, finished_runs: 0, archived_runs: 0, tasks: 2 };
        assert_eq!(manifest.counts(), counts);
        let (n_parts, bytes) = manifest.size();
        assert!(3 <= n_parts && u64::try_from(ARGUMENT_BYTES).unwrap() < bytes, "{n_parts}");
        let backup = Reader::open(place).await.unwrap();
        assert_eq!(backup.manifest(), &manifest);
        assert_eq!(backup.manifest().meta(), META);
        let mut read = 0;
        assert_eq!(backup.check(|n| read += n).await.unwrap(), counts);
        assert_eq!(read, bytes);
        let import = MemoryImport::new(META);
        backup.restore(&import, |_| {}).await.unwrap();
        let restored: Arc<dyn LogStore> = Arc::new(import.store());
        for partition in (0..META.partitions).map(Partition) {
            let (found, expected) = (&restored, &store);
            let head = async |of: &Arc<dyn LogStore>| of.position(partition).await.unwrap().head;
            assert_eq!(head(found).await, head(expected).await);
            assert_eq!(
                found.list_blobs(partition, "").await.unwrap(),
                expected.list_blobs(partition, "").await.unwrap()
            );
        }
    }
}

#[tokio::test]
async fn a_backup_that_was_interrupted_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let root = open(dir.path());
    drop(write_partitions(&cluster().await, &root).await);
    let opened = Reader::open(open(&dir.path().join(GROUP))).await;
    assert!(matches!(opened, Err(BackupError::Missing(_))), "{opened:?}");
}

#[tokio::test]
async fn a_backup_is_not_overwritten() {
    let backup = Backup::new().await;
    let root = backup.root();
    let group = Key::new(GROUP).unwrap();
    let refused = Writer::begin(root, group, source(), "later".to_owned()).await;
    assert!(matches!(refused, Err(BackupError::Exists(_))), "{refused:?}");
}

#[tokio::test]
async fn a_part_that_is_damaged_missing_or_short_is_named() {
    let backup = Backup::new().await;
    let part = backup.path("p000/00001");
    let whole = std::fs::read(&part).unwrap();

    let mut flipped = whole.clone();
    flipped[1000] ^= 1;
    std::fs::write(&part, flipped).unwrap();
    let flaw = backup.flaw().await;
    assert!(flaw.contains("p000/00001") && flaw.contains("SHA-256"), "{flaw}");

    std::fs::write(&part, &whole[..whole.len() - 1]).unwrap();
    let flaw = backup.flaw().await;
    assert!(flaw.contains("p000/00001") && flaw.contains("bytes instead of"), "{flaw}");

    std::fs::remove_file(&part).unwrap();
    let flaw = backup.flaw().await;
    assert!(flaw.contains("p000/00001") && flaw.contains("does not exist"), "{flaw}");

    std::fs::write(&part, &whole).unwrap();
    backup.open().await.unwrap().check(|_| {}).await.unwrap();
}

#[tokio::test]
async fn a_manifest_without_a_part_of_a_partition_is_noticed() {
    let backup = Backup::new().await;
    let path = backup.path("manifest.json");
    let whole = std::fs::read_to_string(&path).unwrap();
    let mut manifest: Manifest = serde_json::from_str(&whole).unwrap();
    manifest.partitions[0].parts.pop();
    std::fs::write(&path, serde_json::to_vec(&manifest).unwrap()).unwrap();
    let reader = backup.open().await.unwrap();
    let flaw = reader.check(|_| {}).await.unwrap_err().to_string();
    assert!(flaw.starts_with("partition p000: "), "{flaw}");
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let flaw = backup.flaw().await;
    assert!(flaw.contains("manifest.json"), "{flaw}");
}

#[tokio::test]
async fn records_that_are_not_a_state_are_not_backed_up() {
    let dir = tempfile::tempdir().unwrap();
    let (store, root) = (cluster().await, open(dir.path()));
    let bytes = bytes_of(&store, Partition(0)).await;
    let writer = begin(&root).await;
    let mut cut = writer.partition(&source()).unwrap();
    cut.push(&bytes[..bytes.len() - 1]).await.unwrap();
    assert!(cut.end().await.is_err(), "the end is missing");
    let mut twice = writer.partition(&source()).unwrap();
    twice.push(&bytes).await.unwrap();
    assert!(twice.push(&bytes).await.is_err(), "records follow the end");
    let other = Source { cluster: ClusterId(8).to_string(), ..source() };
    assert!(matches!(writer.partition(&other), Err(BackupError::OtherCluster { .. })));
}
