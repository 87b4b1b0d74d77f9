//! Where a backup is: the flags that `kahn backup` and `kahn restore` share.

use std::path::{Path, PathBuf};

use clap::Args;
use kahn_backup::BackupError;
use kahn_blob::{BlobStore, Key, OpenError};
use kahn_coordinator::{BlobsConfig, BlobsError};

use crate::exit::Failure;
use crate::render::text;

/// How to reach the store of a backup.
#[derive(Debug, Args)]
pub(crate) struct PlaceArgs {
    /// URL of the S3, GCS or Azure server, if it is not the provider's own
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// Region of the S3 bucket
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// Talk to the store without TLS
    #[arg(long)]
    allow_http: bool,
    /// File with options of the store, such as `access_key_id = ...`, one on each line [default: the
    /// environment, with the names that the tools of the provider use]
    #[arg(long, value_name = "FILE")]
    credentials_file: Option<PathBuf>,
}

impl PlaceArgs {
    /// Opens the store at `url`. A directory is created if it does not exist.
    pub(crate) fn open(self, url: &str) -> Result<BlobStore, Failure> {
        let config = BlobsConfig {
            url: Some(url.to_owned()),
            endpoint: self.endpoint,
            region: self.region,
            allow_http: self.allow_http,
            credentials_file: self.credentials_file,
            ..BlobsConfig::default()
        };
        let opened = config.open().map_err(refused)?;
        opened.ok_or_else(|| Failure::bad_input("the URL of the backup is empty"))
    }

    /// Opens the store at `url`. A directory must exist.
    pub(crate) fn open_existing(self, url: &str) -> Result<BlobStore, Failure> {
        let path = url.strip_prefix("file://").unwrap_or(url);
        let is_directory = path != url || !url.contains("://");
        if is_directory && !Path::new(path).is_dir() {
            let message = format!("there is no directory {path}, and so no backup");
            return Err(Failure::bad_input(message));
        }
        self.open(url)
    }
}

/// Names the argument of the command instead of the setting of a coordinator.
fn refused(error: BlobsError) -> Failure {
    let message = match error {
        BlobsError::Open(OpenError::Url(url)) => format!(
            "{url:?} is not the place of a backup; use a path, file:///path, s3://bucket/prefix, \
             gs://bucket/prefix or az://container/prefix"
        ),
        BlobsError::Open(OpenError::Credentials) => {
            "the URL of a backup must have neither a user nor a query; credentials come from the \
             environment or from --credentials-file"
                .to_owned()
        }
        BlobsError::Open(OpenError::Prefix(error)) => format!("the prefix in the URL: {error}"),
        BlobsError::Open(OpenError::Directory { path, source }) => {
            format!("directory {path} cannot be created: {source}")
        }
        BlobsError::Open(error) => error.to_string(),
        BlobsError::Access(error) => error.to_string(),
        BlobsError::Credentials { path, source } => format!("--credentials-file {path}: {source}"),
        BlobsError::Line { path, line } => {
            format!("--credentials-file {path}, line {line}: write `name = value`")
        }
    };
    Failure::bad_input(message)
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        let failure = Self::refused(error.to_string());
        match error {
            BackupError::Damaged { .. } | BackupError::Partition { .. } => failure
                .advise("use another backup; `kahn restore URL --check` shows if it is whole"),
            _ => failure,
        }
    }
}

/// Creates the directory of a backup for this user alone, if the store is a directory. What is above
/// may exist already, with other permissions.
pub(crate) fn create_private(store: &BlobStore, group: &Key) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt as _;
    let path = store.url().trim_start_matches("file://");
    if path.contains("://") {
        return Ok(());
    }
    let dir = Path::new(path).join(group.to_string());
    let created = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
    created.map_err(|error| Failure::refused(format!("{}: {error}", dir.display())))
}

/// Returns a line about archived runs, or nothing if there are none.
pub(crate) fn archived(n: u64) -> String {
    match n {
        0 => String::new(),
        _ => format!(
            "{} more: all but a summary is in the blob store of the cluster, under history/\n",
            text::plural(n, "archived run")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(opened: Result<BlobStore, Failure>) -> String {
        match opened {
            Err(Failure::Said { message, .. }) => message,
            other => panic!("{other:?}"),
        }
    }

    fn args() -> PlaceArgs {
        PlaceArgs { endpoint: None, region: None, allow_http: false, credentials_file: None }
    }

    #[test]
    fn a_place_that_cannot_be_is_named_without_secrets_and_without_settings_of_a_coordinator() {
        let message = |url: &str| message(args().open(url));
        assert!(message("ftp://b").contains("ftp://b"));
        let secret = message("s3://key:canary@b/x");
        assert!(secret.contains("--credentials-file") && !secret.contains("canary"), "{secret}");
        assert!(message("s3://b/a b").contains("prefix"));
        assert!(!message("ftp://b").contains("blobs.url"));
    }

    #[test]
    fn a_directory_to_restore_from_is_not_created() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("none");
        for url in [path.display().to_string(), format!("file://{}", path.display())] {
            assert!(message(args().open_existing(&url)).contains("no directory"));
            assert!(!path.exists());
        }
        args().open(&path.display().to_string()).unwrap();
        args().open_existing(&path.display().to_string()).unwrap();
    }
}
