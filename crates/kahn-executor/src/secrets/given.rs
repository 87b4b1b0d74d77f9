//! The secrets given to one attempt.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use kahn_model::{ActionKind, Failure, Name, SecretTarget, SecretUse};
use kahn_runtime::secret::Secret;

use super::directory::{Directory, Files};
use super::mask::Mask;
use super::source::Value;
use super::{cannot_start, unreadable};

/// The mount point of secret files in containers.
pub const CONTAINER_DIR: &str = "/run/kahn-secrets";

/// The secrets given to an attempt. `Debug` does not show them. Clones share them.
#[derive(Clone, Default)]
pub struct GivenSecrets(Option<Arc<Inner>>);

struct Inner {
    /// By name, in the order of the work.
    variables: Vec<(Box<str>, Secret)>,
    headers: Vec<(Box<str>, Secret)>,
    files: Mutex<Option<Files>>,
    mask: Mask,
}

impl GivenSecrets {
    /// Returns an empty set.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Creates a set with only headers, for tests.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn of_headers(headers: &[(&str, &str)]) -> Self {
        let mask = Mask::new(headers.iter().map(|(_, value)| *value));
        let own = |(name, value): &(&str, &str)| ((*name).into(), Secret::new(*value));
        let headers = headers.iter().map(own).collect();
        let files = Mutex::new(None);
        Self(Some(Arc::new(Inner { variables: Vec::new(), headers, files, mask })))
    }

    /// Prepares each secret for its use. Blocks while files are written.
    pub(super) fn new(
        uses: &[SecretUse],
        values: &BTreeMap<Name, Value>,
        kind: ActionKind,
        directory: &Directory,
    ) -> Result<Self, Failure> {
        let mut given = Inner {
            variables: Vec::new(),
            headers: Vec::new(),
            files: Mutex::new(None),
            mask: Mask::new(values.values().map(Secret::expose)),
        };
        let mut files = None;
        for SecretUse { target, prefix, secret } in uses {
            let Some(value) = values.get(secret) else {
                return Err(unreadable(secret, "it was not read"));
            };
            match target {
                SecretTarget::Variable(name) => {
                    given.variables.push((name.clone(), prefixed(prefix, value)));
                }
                SecretTarget::Header(name) => {
                    given.headers.push((name.clone(), prefixed(prefix, value)));
                }
                SecretTarget::File(name) => {
                    if name.is_empty() || name.contains(['/', '\0']) || name.starts_with('.') {
                        return Err(cannot_start(&format!("{name:?} is not a valid file name")));
                    }
                    let is_container =
                        matches!(kind, ActionKind::Container | ActionKind::Kubernetes);
                    let unwritable = |e: std::io::Error| unreadable(secret, &e.to_string());
                    if files.is_none() {
                        files = Some(directory.make(is_container).map_err(unwritable)?);
                    }
                    let written = files.as_ref().map(|files| files.write(name, value.expose()));
                    let path = written.transpose().map_err(unwritable)?.unwrap_or_default();
                    let path = match is_container {
                        true => format!("{CONTAINER_DIR}/{name}"),
                        false => path.display().to_string(),
                    };
                    given.variables.push((name.clone(), Secret::new(path)));
                }
            }
        }
        given.files = Mutex::new(files);
        Ok(Self(Some(Arc::new(given))))
    }

    /// Iterates over the environment variables, which override those of the work.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.0.iter().flat_map(|inner| &inner.variables);
        all.map(|(name, value)| (&**name, value.expose()))
    }

    /// Iterates over the HTTP headers.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.0.iter().flat_map(|inner| &inner.headers);
        all.map(|(name, value)| (&**name, value.expose()))
    }

    /// Calls `look` with the directory of files on the host, if there are any.
    pub fn with_files<T>(&self, look: impl FnOnce(&Path) -> T) -> Option<T> {
        let files = self.0.as_ref()?.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.as_ref().map(|files| look(files.dir()))
    }

    /// Returns whether there are no secrets.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Returns the mask for these secrets.
    pub fn mask(&self) -> Mask {
        self.0.as_ref().map_or_else(|| Mask::new([]), |inner| inner.mask.clone())
    }

    /// Returns the text with all secrets masked.
    pub fn masked(&self, text: &str) -> String {
        self.0.as_ref().map_or_else(|| text.to_owned(), |inner| inner.mask.text(text))
    }

    /// Removes the files after the end of the attempt.
    pub(super) async fn remove_files(&self) {
        let files = self
            .0
            .as_ref()
            .and_then(|inner| inner.files.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(files) = files {
            // If the blocking thread cannot be started, the files are removed here.
            drop(tokio::task::spawn_blocking(move || drop(files)).await);
        }
    }
}

fn prefixed(prefix: &str, value: &Secret) -> Secret {
    if prefix.is_empty() {
        return value.clone();
    }
    // Allocated with the final capacity, because growing would leave copies behind.
    let mut text = String::with_capacity(prefix.len() + value.expose().len());
    text.push_str(prefix);
    text.push_str(value.expose());
    Secret::new(text)
}

impl fmt::Debug for GivenSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.variables().chain(self.headers()).map(|(name, _)| name).collect();
        f.debug_tuple("GivenSecrets").field(&names).finish()
    }
}
