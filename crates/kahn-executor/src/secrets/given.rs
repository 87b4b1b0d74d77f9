//! What one attempt was given.

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

/// Where a container sees the files with its secrets.
pub const CONTAINER_DIR: &str = "/run/kahn-secrets";

/// The secrets that an attempt was given. Shows nothing of them. Clones are the same.
#[derive(Clone, Default)]
pub struct GivenSecrets(Option<Arc<Inner>>);

struct Inner {
    /// By name, in the order written.
    variables: Vec<(Box<str>, Secret)>,
    headers: Vec<(Box<str>, Secret)>,
    files: Mutex<Option<Files>>,
    mask: Mask,
}

impl GivenSecrets {
    /// No secrets.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Headers alone, for tests of those who send them.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn of_headers(headers: &[(&str, &str)]) -> Self {
        let mask = Mask::new(headers.iter().map(|(_, value)| *value));
        let own = |(name, value): &(&str, &str)| ((*name).into(), Secret::new(*value));
        let headers = headers.iter().map(own).collect();
        let files = Mutex::new(None);
        Self(Some(Arc::new(Inner { variables: Vec::new(), headers, files, mask })))
    }

    /// Gives each use what it asks for. Blocks while files are written.
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
                        return Err(cannot_start(&format!("a file cannot be called {name:?}")));
                    }
                    let is_container = kind == ActionKind::Container;
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

    /// Environment variables, which win over those of the work.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.0.iter().flat_map(|inner| &inner.variables);
        all.map(|(name, value)| (&**name, value.expose()))
    }

    /// Headers of the request.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.0.iter().flat_map(|inner| &inner.headers);
        all.map(|(name, value)| (&**name, value.expose()))
    }

    /// Calls `look` with the directory of files on the host, when there are any.
    pub fn with_files<T>(&self, look: impl FnOnce(&Path) -> T) -> Option<T> {
        let files = self.0.as_ref()?.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.as_ref().map(|files| look(files.dir()))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// What hides them.
    pub fn mask(&self) -> Mask {
        self.0.as_ref().map_or_else(|| Mask::new([]), |inner| inner.mask.clone())
    }

    /// A text as it may be read.
    pub fn masked(&self, text: &str) -> String {
        self.0.as_ref().map_or_else(|| text.to_owned(), |inner| inner.mask.text(text))
    }

    /// Removes the files: their attempt is over.
    pub(super) async fn remove_files(&self) {
        let files = self
            .0
            .as_ref()
            .and_then(|inner| inner.files.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(files) = files {
            // Where the thread cannot be had, they are removed here.
            drop(tokio::task::spawn_blocking(move || drop(files)).await);
        }
    }
}

fn prefixed(prefix: &str, value: &Secret) -> Secret {
    if prefix.is_empty() {
        return value.clone();
    }
    // As long as it gets: what grows leaves copies behind.
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
