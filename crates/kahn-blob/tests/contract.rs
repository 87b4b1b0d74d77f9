//! What every kind of store guarantees, checked with memory, a directory and a real S3 server.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use kahn_blob::testing::S3Server;
use kahn_blob::{BlobStore, Key, Settings};

/// A store, and what it needs while it is used.
struct Fixture {
    name: &'static str,
    store: BlobStore,
    _server: Option<S3Server>,
    _dir: tempfile::TempDir,
}

fn all() -> Vec<Fixture> {
    let open = |settings: &Settings| BlobStore::open(settings).unwrap();
    let fixture = |name| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().display().to_string();
        let server = (name == "s3").then(|| S3Server::start(dir.path()).unwrap());
        let settings = match (&server, name) {
            (Some(server), _) => server.settings("a/prefix"),
            (None, "directory") => Settings::new(format!("file://{path}/blobs")),
            (None, _) => Settings::new("memory:"),
        };
        Fixture { name, store: open(&settings), _server: server, _dir: dir }
    };
    ["memory", "directory", "s3"].map(fixture).into()
}

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

fn names(keys: impl IntoIterator<Item = Key>) -> BTreeSet<String> {
    keys.into_iter().map(|key| key.to_string()).collect()
}

async fn listed(store: &BlobStore, group: &str) -> BTreeSet<String> {
    names(store.list(&key(group)).await.unwrap().into_iter().map(|entry| entry.key))
}

#[tokio::test]
async fn what_was_written_is_read_whole_or_in_part() {
    for Fixture { name, store, .. } in all() {
        let object = key("logs/run/1.1/0-9");
        assert_eq!(store.get(&object).await.unwrap(), None, "{name}");
        assert_eq!(store.get_range(&object, 0..1).await.unwrap(), None, "{name}");
        store.put(&object, Bytes::from_static(b"0123456789")).await.unwrap();
        assert_eq!(store.get(&object).await.unwrap().unwrap(), "0123456789", "{name}");
        assert_eq!(store.get_range(&object, 3..5).await.unwrap().unwrap(), "34", "{name}");
        assert_eq!(store.get_range(&object, 8..50).await.unwrap().unwrap(), "89", "{name}");
        store.put(&object, Bytes::from_static(b"new")).await.unwrap();
        assert_eq!(store.get(&object).await.unwrap().unwrap(), "new", "{name}");
        store.put(&object, Bytes::new()).await.unwrap();
        assert_eq!(store.get(&object).await.unwrap().unwrap(), "", "{name}");
    }
}

#[tokio::test]
async fn of_several_writers_of_an_absent_object_one_succeeds() {
    for Fixture { name, store, .. } in all() {
        let object = key("history/run");
        assert!(
            store.put_if_absent(&object, Bytes::from_static(b"first")).await.unwrap(),
            "{name}"
        );
        assert!(!store.put_if_absent(&object, Bytes::from_static(b"other")).await.unwrap());
        assert_eq!(store.get(&object).await.unwrap().unwrap(), "first", "{name}");
    }
}

#[tokio::test]
async fn a_list_has_the_objects_of_a_group_and_no_others() {
    for Fixture { name, store, .. } in all() {
        assert!(listed(&store, "logs").await.is_empty(), "{name}");
        assert!(store.groups(&key("logs")).await.unwrap().is_empty(), "{name}");
        for object in ["logs/a/1/x", "logs/a/2/y", "logs/ab/1/z", "logs/top", "other/a/1/x"] {
            store.put(&key(object), Bytes::from_static(b"12")).await.unwrap();
        }
        let expected = ["logs/a/1/x", "logs/a/2/y"].map(str::to_owned);
        assert_eq!(listed(&store, "logs/a").await, BTreeSet::from(expected), "{name}");
        let groups = names(store.groups(&key("logs")).await.unwrap());
        assert_eq!(groups, BTreeSet::from(["logs/a", "logs/ab"].map(str::to_owned)), "{name}");
        let entries = store.list(&key("other")).await.unwrap();
        assert_eq!(entries.iter().map(|entry| entry.size).collect::<Vec<_>>(), [2], "{name}");
        assert!(entries[0].modified.elapsed().unwrap_or_default() < Duration::from_secs(60));
    }
}

#[tokio::test]
async fn a_list_longer_than_a_page_is_complete_and_all_of_it_can_be_removed() {
    for Fixture { name, store, .. } in all() {
        for n in 0..1100 {
            store.put(&key(&format!("logs/run/{n:04}")), Bytes::new()).await.unwrap();
        }
        let entries = store.list(&key("logs/run")).await.unwrap();
        assert_eq!(entries.len(), 1100, "{name}");
        let mut keys: Vec<Key> = entries.into_iter().map(|entry| entry.key).collect();
        keys.push(key("logs/run/never-written"));
        store.remove_all(keys).await.unwrap();
        assert!(listed(&store, "logs").await.is_empty(), "{name}");
        store.remove_all(Vec::new()).await.unwrap();
    }
}

#[tokio::test]
async fn a_group_is_removed_page_by_page_except_what_is_kept() {
    for Fixture { name, store, .. } in all() {
        for n in 0..2100 {
            store.put(&key(&format!("logs/run/{}/{n:04}", n % 3)), Bytes::new()).await.unwrap();
        }
        for object in ["logs/run/removed", "logs/run2/1", "logs/ru/1"] {
            store.put(&key(object), Bytes::new()).await.unwrap();
        }
        let kept = key("logs/run/removed");
        store.remove_group(&key("logs/run"), Some(&kept)).await.unwrap();
        let left = ["logs/run/removed", "logs/run2/1", "logs/ru/1"].map(str::to_owned);
        assert_eq!(listed(&store, "logs").await, BTreeSet::from(left), "{name}");
        store.remove_group(&key("logs/run"), None).await.unwrap();
        assert!(listed(&store, "logs/run").await.is_empty(), "{name}");
        store.remove_group(&key("logs/run"), None).await.unwrap();
    }
}

#[tokio::test]
async fn an_error_names_the_object_the_store_and_what_to_change() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = S3Server::start(dir.path()).unwrap();
    let object = key("logs/x");

    let options = [("access_key_id", "test-key"), ("secret_access_key", "canary")];
    let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let settings = Settings { options: options.into_iter().collect(), ..server.settings("p") };
    let error = BlobStore::open(&settings).unwrap().put(&object, Bytes::new()).await.unwrap_err();
    let error = error.to_string();
    let expected =
        "logs/x in s3://kahn/p cannot be written: access is denied; check the credentials";
    assert!(error.starts_with(expected) && !error.contains("canary"), "{error}");

    let settings = Settings { url: "s3://absent".into(), ..server.settings("") };
    let error = BlobStore::open(&settings).unwrap().list(&object).await.unwrap_err();
    assert!(error.to_string().contains("the bucket or container does not exist"), "{error}");

    let settings = Settings { timeout: Duration::from_secs(2), ..server.settings("p") };
    let store = BlobStore::open(&settings).unwrap();
    server.stop();
    let error = store.get(&object).await.unwrap_err().to_string();
    assert!(error.starts_with("logs/x in s3://kahn/p cannot be read: "), "{error}");
    server.resume().unwrap();
    assert_eq!(store.get(&object).await.unwrap(), None);
}

#[tokio::test]
async fn a_failure_that_passes_is_not_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = S3Server::start(dir.path()).unwrap();
    let store = BlobStore::open(&server.settings("p")).unwrap();
    server.stop();
    let object = key("logs/x");
    let put = tokio::spawn({
        let (store, object) = (store.clone(), object.clone());
        async move { store.put(&object, Bytes::from_static(b"kept")).await }
    });
    // The first attempt begins.
    tokio::task::yield_now().await;
    server.resume().unwrap();
    put.await.unwrap().unwrap();
    assert_eq!(store.get(&object).await.unwrap().unwrap(), "kept");
}
