//! Secrets, which tasks refer to by name and which only the worker knows.
//!
//! The operator defines the available secrets and their sources in `[worker.secrets]`. A task names
//! those that it uses and has access to no others. A worker advertises a label for each secret.
//! Secrets are read anew for each attempt, so that a changed value takes effect with the next one.
//! The values given to an attempt are masked in its log and in its failure message. Outputs that
//! contain a secret are refused instead, since a mask would be mistaken for data.
//!
//! Masks protect against accidents only: a task can always encode a secret in a form that is not
//! recognized.

mod directory;
mod forms;
mod given;
mod mask;
mod source;

use crate::failure::cannot_start;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use kahn_model::{Cause, CauseKind, Failure, Name, SecretUse};

use crate::{Assignment, Control, Executor, Report};
use directory::Directory;
use source::Source;

pub use given::{CONTAINER_DIR, GivenSecrets};
pub use mask::{Mask, MaskStream};
pub use source::SecretSource;

/// The maximum size of all secrets of one task in bytes, which bounds the size of masks.
const ALL_BYTES_MAX: usize = 64 << 10;

/// An error in the configuration of a secret.
#[derive(Debug, thiserror::Error)]
#[error("worker.secrets.{name}: {reason}")]
pub struct InvalidSecret {
    /// The secret.
    pub name: String,
    /// The error message, which contains no part of the value.
    pub reason: String,
}

/// The secrets of a worker.
#[derive(Debug)]
pub struct Secrets {
    known: BTreeMap<Name, Source>,
    directory: Directory,
}

impl Secrets {
    /// Opens the configured secrets. `environment` is that of the process. Files for tasks are
    /// created in `dir`, by default in memory if possible, and otherwise in `data_dir`.
    ///
    /// # Errors
    ///
    /// Returns an error if a name is invalid or a variable is not set.
    pub fn open(
        config: &BTreeMap<String, SecretSource>,
        environment: &[(OsString, OsString)],
        dir: Option<&Path>,
        data_dir: &Path,
    ) -> Result<Self, InvalidSecret> {
        let mut known = BTreeMap::new();
        for (name, source) in config {
            let wrong = |reason: String| InvalidSecret { name: name.clone(), reason };
            let parsed: Name =
                name.parse().map_err(|error: kahn_model::InvalidName| wrong(error.to_string()))?;
            known.insert(parsed, Source::open(name, source, environment).map_err(wrong)?);
        }
        Ok(Self { known, directory: Directory::new(dir, data_dir) })
    }

    /// Iterates over the labels that the worker advertises.
    pub fn labels(&self) -> impl Iterator<Item = String> {
        self.known.keys().map(|name| SecretUse::label_of(name.as_str()))
    }

    /// Executes an attempt with the secrets that its work names.
    pub async fn carry_out(
        self: Arc<Self>,
        executor: Arc<dyn Executor>,
        mut assignment: Assignment,
        control: Control,
    ) -> Report {
        if assignment.work.secrets.is_empty() {
            return executor.run(assignment, control).await;
        }
        let given = match self.read(&assignment).await {
            Ok(given) => given,
            Err(failure) => {
                assignment.logs.seal();
                return Report::not_run(failure);
            }
        };
        assignment.logs.mask(given.mask());
        assignment.secrets = given.clone();
        let mut report = executor.run(assignment, control).await;
        given.remove_files().await;
        report.outcome = match report.outcome {
            Ok(outputs) => given.mask().checked(outputs),
            Err(failure) => Err(given.mask().failure(&failure)),
        };
        report
    }

    /// Reads the named secrets on a blocking thread, since files may be slow.
    async fn read(self: &Arc<Self>, assignment: &Assignment) -> Result<GivenSecrets, Failure> {
        let secrets = Arc::clone(self);
        let uses = assignment.work.secrets.clone();
        let kind = assignment.work.action.kind();
        let reading = tokio::task::spawn_blocking(move || {
            let read = secrets.values(&uses)?;
            GivenSecrets::new(&uses, &read, kind, &secrets.directory)
        });
        reading.await.unwrap_or_else(|error| {
            Err(Failure::new(Cause::of(CauseKind::Preempted), &error.to_string()))
        })
    }

    /// Reads each secret once.
    fn values(&self, uses: &[SecretUse]) -> Result<BTreeMap<Name, source::Value>, Failure> {
        let mut values = BTreeMap::new();
        let mut n_bytes = 0;
        for name in uses.iter().map(|one| &one.secret) {
            if values.contains_key(name) {
                continue;
            }
            let Some(source) = self.known.get(name) else {
                let message = format!("this worker has no secret `{name}`");
                return Err(Failure::new(Cause::of(CauseKind::Infeasible), &message));
            };
            let value = source.read().map_err(|reason| unreadable(name, &reason))?;
            n_bytes += value.expose().len();
            values.insert(name.clone(), value);
        }
        if n_bytes > ALL_BYTES_MAX {
            let message = format!("the secrets of the task have more than {ALL_BYTES_MAX} bytes");
            return Err(cannot_start(&message));
        }
        Ok(values)
    }
}

fn unreadable(name: &Name, reason: &str) -> Failure {
    tracing::warn!(secret = %name, reason, "a task cannot be given its secret");
    cannot_start(&format!("secret `{name}` of this worker cannot be used: {reason}"))
}

#[cfg(test)]
mod tests;
