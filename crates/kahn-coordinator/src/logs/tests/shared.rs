//! Tests of output in a blob store, with a real S3 server where failures matter.

use kahn_blob::testing::S3Server;
use kahn_blob::{Key, Settings};
use kahn_runtime::metrics::Metrics;
use tokio_util::sync::CancellationToken;

use super::*;

/// How long to wait for an upload.
const DEADLINE: Duration = Duration::from_secs(30);

/// The output of a coordinator with a data directory of its own.
fn coordinator(dir: &std::path::Path, store: &BlobStore) -> Logs {
    coordinator_with(dir, store, Caps { attempt_bytes: 16 << 20, ..AMPLE })
}

fn coordinator_with(dir: &std::path::Path, store: &BlobStore, caps: Caps) -> Logs {
    let stats = UploadStats::new(&Metrics::new());
    let logs = Logs::new(dir.join("logs"), caps).with_store(store.clone(), stats);
    logs.uploads.as_ref().unwrap().allow();
    logs.begin_term(3, Timestamp(1));
    logs
}

fn memory() -> BlobStore {
    BlobStore::open(&Settings::new("memory:")).unwrap()
}

async fn wait_until_stored(storing: Option<watch::Receiver<bool>>) {
    if let Some(mut storing) = storing {
        tokio::time::timeout(DEADLINE, storing.wait_for(|is_stored| *is_stored))
            .await
            .expect("the output is not stored in time")
            .unwrap();
    }
}

async fn wait_for_no_files(logs: &Logs) {
    let since = Instant::now();
    while bytes_below(&logs.dir) > 0 {
        assert!(since.elapsed() < DEADLINE, "local files are not removed");
        tokio::time::sleep(Duration::from_millis(5)).await; // poll
    }
}

async fn objects(store: &BlobStore) -> Vec<String> {
    let listed = store.list(&Key::new("logs").unwrap()).await.unwrap();
    let mut names: Vec<_> = listed.iter().map(|entry| entry.key.last_part().to_owned()).collect();
    names.sort_unstable();
    names
}

/// Everything that there is from an offset on.
async fn all_from(logs: &Logs, mut offset: u64) -> String {
    let mut all = Vec::new();
    loop {
        let data = logs.read(attempt(), offset).await.unwrap();
        if data.is_empty() {
            return String::from_utf8(all).unwrap();
        }
        offset += u64::try_from(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
}

fn numbers(n: usize) -> String {
    (0..n).map(|n| format!("{n:09}\n")).collect()
}

#[tokio::test]
async fn a_small_output_is_one_object_that_every_coordinator_can_read() {
    let (here, there, store) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), memory());
    let logs = coordinator(here.path(), &store);
    write(&logs, 0, "hello", false).await;
    let Receipt { received, storing } = receipt(&logs, 5, "", true).await;
    assert_eq!(received, Extent { len: 5, is_sealed: true });
    wait_until_stored(storing).await;
    let name = "3.1.7.00000000000000000000-00000000000000000005.end";
    assert_eq!(objects(&store).await, [name]);
    wait_for_no_files(&logs).await;

    for logs in [logs, coordinator(there.path(), &store)] {
        assert_eq!(logs.extent(attempt()).await.unwrap(), Some(received));
        assert_eq!(all_from(&logs, 0).await, "hello");
        assert_eq!(all_from(&logs, 3).await, "lo");
        assert_eq!(logs.owner(attempt()).await.unwrap(), Some(token(1)));
        // The receipt was lost, and the worker asks again.
        let again = receipt(&logs, 5, "", true).await;
        assert!(again.received.is_sealed && again.storing.is_none());
        assert_eq!(bytes_below(&logs.dir), 0);
    }
}

#[tokio::test]
async fn the_next_leader_continues_where_the_store_ends_and_a_file_that_is_behind_is_dropped() {
    let (here, there, store) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), memory());
    let text = numbers(300_000);
    let piece = |from: usize, to: usize| (u64::try_from(from).unwrap(), &text[from..to]);
    let first = coordinator(here.path(), &store);
    let (offset, part) = piece(0, 1_500_000);
    write(&first, offset, part, false).await;
    // A megabyte is uploaded at once, and the rest is not.
    let since = Instant::now();
    while objects(&store).await.is_empty() {
        assert!(since.elapsed() < DEADLINE);
        tokio::time::sleep(Duration::from_millis(5)).await; // poll
    }

    let second = coordinator(there.path(), &store);
    second.begin_term(4, Timestamp(2));
    let (offset, part) = piece(1_500_000, 2_000_000);
    let received = write(&second, offset, part, false).await;
    assert_eq!(received, Extent { len: 1 << 20, is_sealed: false }, "the gap was not noticed");
    let (offset, part) = piece(1 << 20, text.len());
    let Receipt { storing, .. } = receipt(&second, offset, part, false).await;
    assert!(storing.is_none());
    // What is before is read from the store, the rest from the file.
    assert!(all_from(&second, 0).await == text);
    let end = receipt(&second, u64::try_from(text.len()).unwrap(), "", true).await;
    wait_until_stored(end.storing).await;

    // The first one leads again.
    first.begin_term(5, Timestamp(3));
    wait_for_no_files(&first).await;
    assert_eq!(first.extent(attempt()).await.unwrap(), Some(end.received));
    assert!(all_from(&first, 0).await == text);
    assert!(all_from(&first, 1_400_000).await == text[1_400_000..]);
}

#[tokio::test]
async fn a_deposed_leader_that_goes_on_uploading_harms_nothing() {
    let (here, there, store) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), memory());
    let text = numbers(250_000);
    let caps = Caps { attempt_bytes: 1 << 20, ..AMPLE };
    let deposed = coordinator_with(here.path(), &store, caps);
    let leader = coordinator(there.path(), &store);
    leader.begin_term(4, Timestamp(2));
    let len = u64::try_from(text.len()).unwrap();
    write(&leader, 0, &text, false).await;
    let end = receipt(&leader, len, "", true).await;
    // Chunks of other sizes, and an end that was cut at the limit of this coordinator.
    write(&deposed, 0, &text[..700_000], false).await;
    let since = Instant::now();
    while !objects(&store).await.iter().any(|name| name.ends_with("-00000000000000700000")) {
        assert!(since.elapsed() < DEADLINE, "the chunk is not uploaded");
        tokio::time::sleep(Duration::from_millis(5)).await; // poll
    }
    write(&deposed, 700_000, &text[700_000..], false).await;
    let cut = receipt(&deposed, len + 500_000, "", true).await;
    for end in [end.storing, cut.storing] {
        wait_until_stored(end).await;
    }
    let read = coordinator(tempfile::tempdir().unwrap().path(), &store);
    assert_eq!(read.extent(attempt()).await.unwrap(), Some(end.received));
    assert!(all_from(&read, 0).await == text);
}

#[tokio::test]
async fn output_survives_a_store_that_fails_in_the_middle_and_is_readable_meanwhile() {
    let (dir, server_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut server = S3Server::start(server_dir.path()).unwrap();
    let settings = Settings { timeout: Duration::from_secs(2), ..server.settings("p") };
    let store = BlobStore::open(&settings).unwrap();
    let logs = coordinator(dir.path(), &store);
    let text = numbers(400_000);
    let mut storing = None;
    for (n, part) in text.as_bytes().chunks(100_000).enumerate() {
        let offset = u64::try_from(n * 100_000).unwrap();
        let is_last = n == 39;
        let sent = piece(offset, part, is_last);
        storing = logs.write(attempt(), token(1), sent).await.unwrap().storing;
        match n {
            15 => server.stop(),
            30 => assert!(all_from(&logs, 0).await == text[..3_100_000]),
            _ => {}
        }
    }
    assert_eq!(logs.extent(attempt()).await.unwrap().map(|extent| extent.is_sealed), Some(true));
    assert!(!*storing.as_ref().unwrap().borrow(), "stored without a store");
    server.resume().unwrap();
    wait_until_stored(storing).await;
    wait_for_no_files(&logs).await;
    assert!(all_from(&logs, 0).await == text);
}

#[tokio::test]
async fn files_of_a_killed_process_are_uploaded_by_the_next() {
    let (dir, server_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut server = S3Server::start(server_dir.path()).unwrap();
    let settings = Settings { timeout: Duration::from_secs(2), ..server.settings("p") };
    let store = BlobStore::open(&settings).unwrap();
    server.stop();
    // The tasks of a process end with it.
    let (killed_dir, killed_store) = (dir.path().to_owned(), store.clone());
    let process = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let killed = process.spawn(async move {
        let killed = coordinator(&killed_dir, &killed_store);
        write(&killed, 0, "kept", false).await;
        drop(receipt(&killed, 4, "", true).await);
    });
    killed.await.unwrap();
    tokio::task::spawn_blocking(move || drop(process)).await.unwrap();
    server.resume().unwrap();

    let logs = coordinator(dir.path(), &store);
    logs.recover().await;
    wait_for_no_files(&logs).await;
    let extent = logs.extent(attempt()).await.unwrap();
    assert_eq!(extent, Some(Extent { len: 4, is_sealed: true }));
    assert_eq!(all_from(&logs, 0).await, "kept");
}

#[tokio::test]
async fn removed_output_leaves_no_object_behind() {
    let (dir, store) = (tempfile::tempdir().unwrap(), memory());
    let logs = coordinator(dir.path(), &store);
    let end = receipt(&logs, 0, "text", true).await;
    wait_until_stored(end.storing).await;
    logs.forget(attempt().run).await.unwrap();
    assert!(objects(&store).await.is_empty());
    assert_eq!(logs.extent(attempt()).await.unwrap(), None);
}

#[tokio::test]
async fn whoever_reads_removed_output_is_told_why_and_output_without_a_run_goes_after_a_while() {
    let (dir, store) = (tempfile::tempdir().unwrap(), memory());
    let logs = coordinator(dir.path(), &store);
    let end = receipt(&logs, 0, "text", true).await;
    wait_until_stored(end.storing).await;
    wait_for_no_files(&logs).await;
    let run = attempt().run;
    assert_eq!(logs.size(run).await.unwrap(), Some(4));
    assert!(logs.remove_output(run, "too old").await.unwrap());
    assert!(!logs.remove_output(run, "too old").await.unwrap());
    assert_eq!(logs.extent(attempt()).await.unwrap(), None);
    assert_eq!(logs.why_removed(run).await.unwrap().as_deref(), Some("too old"));
    assert_eq!(logs.size(run).await.unwrap(), Some(0));

    assert_eq!(logs.stored_runs().await.unwrap(), [run]);
    assert!(!logs.remove_if_older(run, Duration::from_secs(3600)).await.unwrap());
    assert!(logs.remove_if_older(run, Duration::ZERO).await.unwrap());
    assert!(logs.stored_runs().await.unwrap().is_empty() && objects(&store).await.is_empty());
}

#[tokio::test]
async fn a_store_belongs_to_one_cluster() {
    let (dir, store) = (tempfile::tempdir().unwrap(), memory());
    let logs = coordinator(dir.path(), &store);
    for (cluster, expected) in [("one", true), ("one", true), ("other", false)] {
        let stopping = CancellationToken::new();
        assert_eq!(logs.claim(cluster, &stopping).await, expected, "{cluster}");
    }
}

#[tokio::test]
async fn nothing_is_uploaded_or_swept_before_the_store_is_reserved_and_the_start_does_not_wait() {
    let (dir, server_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut server = S3Server::start(server_dir.path()).unwrap();
    let store = BlobStore::open(&server.settings("p")).unwrap();
    server.stop();
    let stats = UploadStats::new(&Metrics::new());
    let logs = Logs::new(dir.path().join("logs"), AMPLE).with_store(store.clone(), stats);
    let (began_at, stopping) = (Instant::now(), CancellationToken::new());
    assert!(logs.claim("one", &stopping).await);
    assert!(began_at.elapsed() < Duration::from_secs(10), "the start waits for the store");
    logs.begin_term(3, Timestamp(1));
    let end = receipt(&logs, 0, "text", true).await;
    assert!(logs.stored_runs().await.is_err(), "output of another cluster could be removed");
    server.resume().unwrap();
    wait_until_stored(end.storing).await;
    assert_eq!(store.get(&Key::new("cluster").unwrap()).await.unwrap().unwrap(), "one");
    assert_eq!(logs.stored_runs().await.unwrap(), [attempt().run]);
}

#[tokio::test]
async fn files_that_a_power_loss_has_damaged_are_dropped_and_the_worker_sends_them_again() {
    let (dir, store) = (tempfile::tempdir().unwrap(), memory());
    let stats = || UploadStats::new(&Metrics::new());
    let unclaimed = || Logs::new(dir.path().join("logs"), AMPLE).with_store(store.clone(), stats());
    let paths = unclaimed().paths(attempt());
    let lease = paths.sealed.with_extension("lease");
    // The log is shorter, the seal is empty, or the lease of an unsealed log is.
    for (is_sealed, damaged, left) in
        [(true, &paths.log, "hel"), (true, &paths.sealed, ""), (false, &lease, "")]
    {
        let killed = unclaimed();
        killed.begin_term(3, Timestamp(1));
        drop(receipt(&killed, 0, "hello", is_sealed).await);
        drop(killed);
        std::fs::write(damaged, left).unwrap();
        let logs = unclaimed();
        logs.recover().await;
        assert_eq!(bytes_below(&logs.dir), 0, "{} was kept", damaged.display());
        assert_eq!(logs.extent(attempt()).await.unwrap(), None);
        logs.begin_term(4, Timestamp(2));
        assert_eq!(write(&logs, 5, "", true).await, Extent::default());
        assert_eq!(write(&logs, 0, "hello", false).await.len, 5);
        assert_eq!(all_from(&logs, 0).await, "hello");
        logs.forget_files(attempt().run).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_received_while_the_store_is_looked_at_is_not_removed() {
    let (here, there, store) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), memory());
    let text = numbers(200_000);
    let (first, second) = (coordinator(here.path(), &store), coordinator(there.path(), &store));
    second.begin_term(4, Timestamp(2));
    write(&first, 0, &text[..1000], false).await;
    write(&second, 0, &text[..1_500_000], false).await;
    let since = Instant::now();
    while !objects(&store).await.iter().any(|name| name.contains("0001048576")) {
        assert!(since.elapsed() < DEADLINE, "the chunk is not uploaded");
        tokio::time::sleep(Duration::from_millis(5)).await; // poll
    }
    // The first one leads again, with a file that is behind. Readers are shown the store at once.
    first.begin_term(5, Timestamp(3));
    assert!(first.extent(attempt()).await.unwrap().unwrap().len >= 1 << 20);
    assert!(
        first
            .read(attempt(), 500_000)
            .await
            .unwrap()
            .starts_with(&text.as_bytes()[500_000..500_010])
    );
    // The worker sends everything again meanwhile, and its end.
    let mut at = 0;
    let end = loop {
        let sent = piece(u64::try_from(at).unwrap(), &text.as_bytes()[at..], true);
        let receipt = first.write(attempt(), token(1), sent).await.unwrap();
        if receipt.received.is_sealed {
            break receipt;
        }
        at = usize::try_from(receipt.received.len).unwrap();
    };
    let stored = match end.storing {
        Some(mut storing) => storing.wait_for(|stored| *stored).await.is_ok(),
        None => true,
    };
    assert!(stored, "the complete output was removed");
    assert!(all_from(&first, 0).await == text);
}
