//! Opens a store by its URL.

use std::path::Path as FsPath;
use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::client::{ClientConfigKey, ClientOptions};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::{BackoffConfig, RetryConfig};

use crate::error::OpenError;
use crate::key::Key;
use crate::store::BlobStore;

/// How long to wait for a connection to the store.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Retries of one operation within its timeout. Callers that must succeed retry on top of this.
const RETRIES_MAX: usize = 4;

/// Which store to open, and how. Options that are not set come from the environment variables that
/// the tools of the provider use, such as `AWS_ACCESS_KEY_ID`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A path, `file:///path`, `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`,
    /// or `memory:`, whose objects end with the process.
    pub url: String,
    /// The URL of the server, for stores that are compatible with S3, GCS or Azure.
    pub endpoint: Option<String>,
    /// The region of an S3 bucket.
    pub region: Option<String>,
    /// Whether to talk to the store without TLS.
    pub allow_http: bool,
    /// Options of the kind of store by name, such as `access_key_id` and `secret_access_key`. Their
    /// values are never shown.
    pub options: Options,
    /// The longest time that an operation may take, including its retries.
    pub timeout: Duration,
}

/// Options by name, whose values may be secret.
#[derive(Clone, Default)]
pub struct Options(Vec<(String, String)>);

impl FromIterator<(String, String)> for Options {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(options: T) -> Self {
        Self(options.into_iter().collect())
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl Settings {
    /// Returns the settings for a URL, with defaults for everything else.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            endpoint: None,
            region: None,
            allow_http: false,
            options: Options::default(),
            timeout: Duration::from_secs(30),
        }
    }

    fn client(&self) -> ClientOptions {
        ClientOptions::new()
            .with_allow_http(self.allow_http)
            .with_connect_timeout(CONNECT_TIMEOUT.min(self.timeout))
            .with_timeout(self.timeout)
    }

    fn retry(&self) -> RetryConfig {
        let backoff = BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
            base: 2.0,
        };
        RetryConfig { backoff, max_retries: RETRIES_MAX, retry_timeout: self.timeout }
    }
}

impl BlobStore {
    /// Opens a store. A remote store is contacted by the first operation only; a directory is
    /// created if it does not exist.
    ///
    /// # Errors
    ///
    /// Returns an error that names the setting that has to be changed.
    pub fn open(settings: &Settings) -> Result<Self, OpenError> {
        let url = settings.url.as_str();
        let (inner, prefix) = match split(url)? {
            Location::Memory => (Arc::new(InMemory::new()) as Arc<dyn ObjectStore>, ""),
            Location::Directory(path) => (directory(path)?, ""),
            Location::Bucket { scheme, bucket, prefix } => {
                (remote(settings, scheme, &format!("{scheme}://{bucket}"))?, prefix)
            }
        };
        let prefix = match prefix {
            "" => None,
            prefix => Some(Key::new(prefix)?),
        };
        Ok(Self::new(inner, prefix, url, settings.timeout))
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Location<'a> {
    Memory,
    Directory(&'a str),
    Bucket { scheme: &'a str, bucket: &'a str, prefix: &'a str },
}

fn split(url: &str) -> Result<Location<'_>, OpenError> {
    let invalid = || OpenError::Url(url.to_owned());
    let Some((scheme, rest)) = url.split_once("://") else {
        return match url {
            "memory:" => Ok(Location::Memory),
            "" => Err(invalid()),
            path => Ok(Location::Directory(path)),
        };
    };
    if scheme == "file" {
        let is_absolute = rest.starts_with('/');
        return is_absolute.then_some(Location::Directory(rest)).ok_or_else(invalid);
    }
    // Checked first, and not shown, because it could have a password.
    if url.contains(['@', '?', '#']) {
        return Err(OpenError::Credentials);
    }
    if !["s3", "gs", "az"].contains(&scheme) {
        return Err(invalid());
    }
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(invalid());
    }
    Ok(Location::Bucket { scheme, bucket, prefix: prefix.trim_end_matches('/') })
}

/// Opens a directory that only the user of the process can read.
fn directory(path: &str) -> Result<Arc<dyn ObjectStore>, OpenError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let created = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    created.map_err(|source| OpenError::Directory { path: path.to_owned(), source })?;
    let root = FsPath::new(path);
    // An object is written to a temporary file and renamed, so that it is never seen half written.
    // It is synced to disk, because whoever has stored it removes the original.
    let store = LocalFileSystem::new_with_prefix(root);
    let store = store.map_err(|source| OpenError::Build { store: path.to_owned(), source })?;
    Ok(Arc::new(store.with_fsync(true).with_automatic_cleanup(true)))
}

fn remote(settings: &Settings, scheme: &str, url: &str) -> Result<Arc<dyn ObjectStore>, OpenError> {
    let failed = |source| OpenError::Build { store: url.to_owned(), source };
    Ok(match scheme {
        "s3" => Arc::new(s3(settings, url)?.build().map_err(failed)?),
        "gs" => Arc::new(gcs(settings, url)?.build().map_err(failed)?),
        _ => Arc::new(azure(settings, url)?.build().map_err(failed)?),
    })
}

/// Sets the options on a builder. Keys of the HTTP client are refused: they have settings of their
/// own.
macro_rules! with_options {
    ($builder:expr, $settings:expr, $url:expr) => {{
        let mut builder = $builder;
        for (name, value) in &$settings.options.0 {
            let is_client = name.parse::<ClientConfigKey>().is_ok();
            let key = name.to_ascii_lowercase().parse().ok().filter(|_| !is_client);
            let key = key.ok_or_else(|| OpenError::Option {
                store: $url.to_owned(),
                option: name.clone(),
            })?;
            builder = builder.with_config(key, value);
        }
        builder.with_client_options($settings.client()).with_retry($settings.retry())
    }};
}

fn s3(settings: &Settings, url: &str) -> Result<AmazonS3Builder, OpenError> {
    let mut builder = with_options!(AmazonS3Builder::from_env().with_url(url), settings, url);
    if let Some(region) = &settings.region {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = &settings.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    Ok(builder)
}

fn gcs(settings: &Settings, url: &str) -> Result<GoogleCloudStorageBuilder, OpenError> {
    let builder = GoogleCloudStorageBuilder::from_env().with_url(url);
    let mut builder = with_options!(builder, settings, url);
    if let Some(endpoint) = &settings.endpoint {
        builder = builder.with_base_url(endpoint);
    }
    Ok(builder)
}

fn azure(settings: &Settings, url: &str) -> Result<MicrosoftAzureBuilder, OpenError> {
    let mut builder = with_options!(MicrosoftAzureBuilder::from_env().with_url(url), settings, url);
    if let Some(endpoint) = &settings.endpoint {
        builder = builder.with_endpoint(endpoint.clone());
    }
    Ok(builder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_directory_or_a_bucket_with_a_prefix() {
        let bucket = |scheme, prefix| Location::Bucket { scheme, bucket: "b", prefix };
        assert_eq!(split("s3://b").unwrap(), bucket("s3", ""));
        assert_eq!(split("gs://b/x/y/").unwrap(), bucket("gs", "x/y"));
        assert_eq!(split("az://b/x").unwrap(), bucket("az", "x"));
        assert_eq!(split("file:///srv/blobs").unwrap(), Location::Directory("/srv/blobs"));
        assert_eq!(split("blobs").unwrap(), Location::Directory("blobs"));
        assert_eq!(split("memory:").unwrap(), Location::Memory);
        for url in ["", "s3://", "s3:///x", "http://b/x", "file://blobs", "ftp://b"] {
            assert!(matches!(split(url), Err(OpenError::Url(_))), "{url}");
        }
    }

    #[test]
    fn a_secret_in_the_url_is_refused_and_not_shown() {
        for url in [
            "s3://key:canary@b/x",
            "az://c/x?sig=canary",
            "https://ACCOUNT.blob.core.windows.net/c?sig=canary",
            "https://key:canary@minio:9000/b",
            "https://minio:9000/b#canary",
        ] {
            let error = BlobStore::open(&Settings::new(url)).unwrap_err();
            assert!(matches!(error, OpenError::Credentials), "{error}");
            assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
        }
        let options = [("secret_access_key".to_owned(), "canary".to_owned())];
        let settings =
            Settings { options: options.into_iter().collect(), ..Settings::new("s3://b") };
        assert!(!format!("{settings:?}").contains("canary"));
    }

    #[test]
    fn an_option_of_another_kind_of_store_is_refused() {
        let options = || [("sas_key".to_owned(), "x".to_owned())].into_iter().collect();
        let settings = |url| Settings { options: options(), ..Settings::new(url) };
        let error = BlobStore::open(&settings("s3://b")).unwrap_err().to_string();
        assert!(error.contains("s3://b has no option \"sas_key\""), "{error}");
    }
}
