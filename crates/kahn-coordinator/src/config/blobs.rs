//! The configuration of the blob store: the section `[coordinator.blobs]`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kahn_blob::{BlobStore, OpenError, Settings};
use kahn_runtime::human_duration;
use serde::{Deserialize, Serialize};

/// The store for what outlives the host of a coordinator: the output of tasks, and archived runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BlobsConfig {
    /// A directory, or the URL of a bucket: `s3://`, `gs://` or `az://`. By default there is no such
    /// store, and output stays in the data directory of the coordinator that received it. Several
    /// coordinators need a store that all of them can reach.
    pub url: Option<String>,
    /// The URL of the server, if it is not that of the provider.
    pub endpoint: Option<String>,
    /// The region of an S3 bucket.
    pub region: Option<String>,
    /// Whether to talk to the store without TLS.
    pub allow_http: bool,
    /// A file with options of the store, one on each line, such as `access_key_id = ...` and
    /// `secret_access_key = ...`. Other options come from the environment, such as
    /// `AWS_ACCESS_KEY_ID`.
    pub credentials_file: Option<PathBuf>,
    /// The longest time that an operation may take.
    #[serde(with = "human_duration")]
    pub timeout: Duration,
}

impl Default for BlobsConfig {
    fn default() -> Self {
        Self {
            url: None,
            endpoint: None,
            region: None,
            allow_http: false,
            credentials_file: None,
            timeout: Duration::from_secs(30),
        }
    }
}

/// Why the blob store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BlobsError {
    /// The settings do not name a store.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store cannot be reached, or refuses access.
    #[error("blobs: {0}")]
    Access(std::io::Error),
    /// The file with credentials cannot be read.
    #[error("blobs.credentials_file {path}: {source}")]
    Credentials {
        /// The path of the file.
        path: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A line of the file with credentials is no option.
    #[error("blobs.credentials_file {path}, line {line}: write `name = value`")]
    Line {
        /// The path of the file.
        path: String,
        /// The number of the line, from 1.
        line: usize,
    },
}

impl BlobsConfig {
    /// Opens the store, if there is one.
    ///
    /// # Errors
    ///
    /// Returns an error that names the setting that has to be changed.
    pub fn open(&self) -> Result<Option<BlobStore>, BlobsError> {
        let Some(url) = &self.url else { return Ok(None) };
        let options = match &self.credentials_file {
            Some(path) => read_options(path)?,
            None => Vec::new(),
        };
        let settings = Settings {
            url: url.clone(),
            endpoint: self.endpoint.clone(),
            region: self.region.clone(),
            allow_http: self.allow_http,
            options: options.into_iter().collect(),
            timeout: self.timeout,
        };
        Ok(Some(BlobStore::open(&settings)?))
    }

    /// Looks for output in the store, if there is one, and returns its URL.
    ///
    /// # Errors
    ///
    /// Returns an error if the store cannot be used.
    pub async fn check(&self) -> Result<Option<String>, BlobsError> {
        let Some(store) = self.open()? else { return Ok(None) };
        crate::logs::check(&store).await.map_err(BlobsError::Access)?;
        Ok(Some(store.url().to_owned()))
    }
}

fn read_options(path: &Path) -> Result<Vec<(String, String)>, BlobsError> {
    let text = std::fs::read_to_string(path);
    let shown = path.display().to_string();
    let text = text.map_err(|source| BlobsError::Credentials { path: shown.clone(), source })?;
    let lines = text.lines().map(str::trim).zip(1..);
    let options = lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
    let options = options.map(|(line, number)| {
        let (name, value) = line
            .split_once('=')
            .ok_or_else(|| BlobsError::Line { path: shown.clone(), line: number })?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    });
    options.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read_from_a_file_and_no_error_shows_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials");
        std::fs::write(&path, "# for S3\n\naccess_key_id = k\nsecret_access_key=a=b\n").unwrap();
        let expected = [("access_key_id", "k"), ("secret_access_key", "a=b")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(read_options(&path).unwrap(), expected);
        std::fs::write(&path, "access_key_id = k\ncanary\n").unwrap();
        let error = read_options(&path).unwrap_err().to_string();
        assert!(error.ends_with("credentials, line 2: write `name = value`"), "{error}");
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(read_options(&path), Err(BlobsError::Credentials { .. })));
    }
}
