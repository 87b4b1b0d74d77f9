//! The operations on objects.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use object_store::path::Path;
use object_store::{
    Error, GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore, PutMode, PutOptions,
    PutPayload,
};

use crate::error::{BlobError, Cause, Verb};
use crate::key::Key;

/// The number of objects of a group that are removed at a time: as many as S3 lists and removes with
/// one request.
const REMOVED_AT_ONCE: usize = 1000;

/// An object in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub key: Key,
    /// Its size in bytes.
    pub size: u64,
    /// When it was written, by the clock of the store.
    pub modified: SystemTime,
}

/// A store of objects. Clones use the same connections.
#[derive(Clone, Debug)]
pub struct BlobStore {
    inner: Arc<dyn ObjectStore>,
    /// The objects of this store are below this prefix.
    prefix: Option<Key>,
    url: Arc<str>,
    timeout: Duration,
}

impl BlobStore {
    pub(crate) fn new(
        inner: Arc<dyn ObjectStore>,
        prefix: Option<Key>,
        url: &str,
        timeout: Duration,
    ) -> Self {
        Self { inner, prefix, url: url.into(), timeout }
    }

    /// Returns the URL of the store, which has no secrets.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Writes an object, and replaces one of the same name. Readers see either the whole object or
    /// none.
    ///
    /// # Errors
    ///
    /// Returns an error if the store did not confirm it. The object may have been written.
    pub async fn put(&self, key: &Key, bytes: Bytes) -> Result<(), BlobError> {
        let options = PutOptions::from(PutMode::Overwrite);
        let path = self.path(key);
        let put = self.inner.put_opts(&path, PutPayload::from_bytes(bytes), options);
        self.within(key, Verb::Written, put).await.map(|_| ())
    }

    /// Writes an object unless there is one of this name; returns whether it was written.
    ///
    /// # Errors
    ///
    /// Returns an error if the store did not confirm it. The object may have been written.
    pub async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<bool, BlobError> {
        let options = PutOptions::from(PutMode::Create);
        let path = self.path(key);
        let put = self.inner.put_opts(&path, PutPayload::from_bytes(bytes), options);
        let put = async {
            match put.await {
                Ok(_) => Ok(true),
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
                Err(error) => Err(error),
            }
        };
        self.within(key, Verb::Written, put).await
    }

    /// Reads an object; returns `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// Returns an error if the object cannot be read.
    pub async fn get(&self, key: &Key) -> Result<Option<Bytes>, BlobError> {
        self.get_with(key, GetOptions::default()).await
    }

    /// Reads a part of an object, which ends with the object if that is shorter. Returns `None` if
    /// the object does not exist.
    ///
    /// # Errors
    ///
    /// Returns an error if the object cannot be read, or ends before the range.
    pub async fn get_range(
        &self,
        key: &Key,
        range: Range<u64>,
    ) -> Result<Option<Bytes>, BlobError> {
        let range = Some(GetRange::Bounded(range));
        self.get_with(key, GetOptions { range, ..GetOptions::default() }).await
    }

    async fn get_with(&self, key: &Key, options: GetOptions) -> Result<Option<Bytes>, BlobError> {
        let path = self.path(key);
        let get = async {
            match self.inner.get_opts(&path, options).await.map(GetResult::bytes) {
                Ok(bytes) => bytes.await.map(Some),
                Err(Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        };
        self.within(key, Verb::Read, get).await
    }

    /// Returns all objects of a group, including those in groups within it, in no particular order.
    ///
    /// # Errors
    ///
    /// Returns an error if the store does not return the next part of the list in time.
    pub async fn list(&self, group: &Key) -> Result<Vec<Entry>, BlobError> {
        let path = self.path(group);
        let mut listed = self.inner.list(Some(&path));
        let mut entries = Vec::new();
        loop {
            // The time is limited for each step, because there may be many pages.
            let next = async { listed.next().await.transpose() };
            match self.within(group, Verb::Listed, next).await? {
                Some(meta) => entries.extend(self.entry(meta)),
                None => return Ok(entries),
            }
        }
    }

    /// Returns the groups directly within a group, in no particular order.
    ///
    /// # Errors
    ///
    /// Returns an error if the store does not return the whole list in time.
    pub async fn groups(&self, group: &Key) -> Result<Vec<Key>, BlobError> {
        let path = self.path(group);
        let list = self.inner.list_with_delimiter(Some(&path));
        let found = self.within(group, Verb::Listed, list).await?;
        Ok(found.common_prefixes.iter().filter_map(|path| self.key(path)).collect())
    }

    /// Removes objects; those that do not exist count as removed.
    ///
    /// # Errors
    ///
    /// Returns an error if an object could not be removed. Others may have been.
    pub async fn remove_all(&self, keys: Vec<Key>) -> Result<(), BlobError> {
        let Some(first) = keys.first().cloned() else { return Ok(()) };
        let paths: Vec<_> = keys.iter().map(|key| Ok(self.path(key))).collect();
        let paths: BoxStream<'static, _> = stream::iter(paths).boxed();
        let mut removing = self.inner.delete_stream(paths);
        loop {
            // The time is limited for each step, because there may be many.
            let next = async { removing.next().await.transpose() };
            let removed = async {
                match next.await {
                    Err(Error::NotFound { .. }) => Ok(true),
                    other => other.map(|removed| removed.is_some()),
                }
            };
            if !self.within(&first, Verb::Removed, removed).await? {
                return Ok(());
            }
        }
    }

    /// Removes all objects of a group except `kept`. However many there are, only some names are in
    /// memory at a time.
    ///
    /// # Errors
    ///
    /// Returns an error if an object could not be found or removed. Others may have been removed.
    pub async fn remove_group(&self, group: &Key, kept: Option<&Key>) -> Result<(), BlobError> {
        let path = self.path(group);
        let mut listed = self.inner.list(Some(&path));
        loop {
            let mut page = Vec::new();
            while page.len() < REMOVED_AT_ONCE {
                let next = async { listed.next().await.transpose() };
                let Some(meta) = self.within(group, Verb::Listed, next).await? else { break };
                page.extend(self.entry(meta).map(|entry| entry.key));
            }
            let is_last = page.len() < REMOVED_AT_ONCE;
            page.retain(|key| Some(key) != kept);
            self.remove_all(page).await?;
            if is_last {
                return Ok(());
            }
        }
    }

    async fn within<T>(
        &self,
        object: &Key,
        verb: Verb,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, BlobError> {
        let cause = match tokio::time::timeout(self.timeout, work).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => Cause::of(error, verb),
            Err(_) => Cause::Timeout(self.timeout),
        };
        Err(BlobError { object: object.to_string(), store: self.url.to_string(), verb, cause })
    }

    fn path(&self, key: &Key) -> Path {
        match &self.prefix {
            Some(prefix) => Path::from(format!("{prefix}/{key}")),
            None => Path::from(key.as_str()),
        }
    }

    /// Returns the name of an object, or `None` if it has one that this crate does not write.
    fn key(&self, path: &Path) -> Option<Key> {
        let name = match &self.prefix {
            Some(prefix) => path.as_ref().strip_prefix(prefix.as_str())?.strip_prefix('/')?,
            None => path.as_ref(),
        };
        Key::new(name).ok()
    }

    fn entry(&self, meta: ObjectMeta) -> Option<Entry> {
        let key = self.key(&meta.location)?;
        Some(Entry { key, size: meta.size, modified: meta.last_modified.into() })
    }
}
