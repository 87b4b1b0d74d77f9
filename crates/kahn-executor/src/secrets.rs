//! Secrets, which tasks refer to by name and which only the worker knows.
//!
//! The operator defines the available secrets and their sources in `[worker.secrets]`. A task names
//! those that it uses and has access to no others. A worker advertises a label for each secret,
//! which names the namespaces that may use it if not all may. Placement follows these labels, but
//! only the check of the worker, at the start of each attempt, enforces the restriction.
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

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use kahn_model::{Cause, CauseKind, Failure, Name, Namespace, SecretUse};

use crate::failure::cannot_start;
use crate::{Assignment, Control, Executor, Report};
use directory::Directory;
use source::Source;

pub use given::{CONTAINER_DIR, GivenSecrets};
pub use mask::{Mask, MaskStream};
pub use source::SecretSettings;

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
    known: BTreeMap<Name, Known>,
    directory: Directory,
}

#[derive(Debug)]
struct Known {
    source: Source,
    /// The namespaces that may use it; `None` if all may.
    namespaces: Option<BTreeSet<Namespace>>,
}

impl Known {
    /// Returns whether a task of `namespace` may use it. A coordinator that does not send the
    /// namespace gets no restricted secret.
    fn is_for(&self, namespace: Option<&Namespace>) -> bool {
        let Some(allowed) = &self.namespaces else { return true };
        namespace.is_some_and(|namespace| allowed.contains(namespace))
    }
}

impl Secrets {
    /// Opens the configured secrets. `environment` is that of the process. Files for tasks are
    /// created in `dir`, by default in memory if possible, and otherwise in `data_dir`.
    ///
    /// # Errors
    ///
    /// Returns an error if a name is invalid, a source is missing or a variable is not set.
    pub fn open(
        config: &BTreeMap<String, SecretSettings>,
        environment: &[(OsString, OsString)],
        dir: Option<&Path>,
        data_dir: &Path,
    ) -> Result<Self, InvalidSecret> {
        let mut known = BTreeMap::new();
        for (name, settings) in config {
            let wrong = |reason: String| InvalidSecret { name: name.clone(), reason };
            let parsed: Name =
                name.parse().map_err(|error: kahn_model::InvalidName| wrong(error.to_string()))?;
            let source = Source::open(name, settings, environment).map_err(wrong)?;
            let namespaces = settings.allowed().map_err(wrong)?;
            known.insert(parsed, Known { source, namespaces });
        }
        Ok(Self { known, directory: Directory::new(dir, data_dir) })
    }

    /// Iterates over the labels that the worker advertises, with their values.
    pub fn labels(&self) -> impl Iterator<Item = (String, String)> {
        self.known.iter().map(|(name, known)| {
            let value = SecretUse::label_value(known.namespaces.as_ref());
            (SecretUse::label_of(name.as_str()), value)
        })
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
        let namespace = assignment.namespace.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let read = secrets.values(&uses, namespace.as_ref())?;
            GivenSecrets::new(&uses, &read, kind, &secrets.directory)
        });
        reading.await.unwrap_or_else(|error| {
            Err(Failure::new(Cause::of(CauseKind::Preempted), &error.to_string()))
        })
    }

    /// Reads each secret once. Nothing is read if the namespace may not use one of them.
    fn values(
        &self,
        uses: &[SecretUse],
        namespace: Option<&Namespace>,
    ) -> Result<BTreeMap<Name, source::Value>, Failure> {
        let mut known = BTreeMap::new();
        for name in uses.iter().map(|one| &one.secret) {
            known.insert(name, self.find(name, namespace)?);
        }
        let mut values = BTreeMap::new();
        let mut n_bytes = 0;
        for (name, source) in known {
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

    /// Returns the source of a secret for a task of `namespace`.
    fn find(&self, name: &Name, namespace: Option<&Namespace>) -> Result<&Source, Failure> {
        let Some(known) = self.known.get(name) else {
            let message = format!("this worker has no secret `{name}`");
            return Err(Failure::new(Cause::of(CauseKind::Infeasible), &message));
        };
        if known.is_for(namespace) {
            return Ok(&known.source);
        }
        tracing::warn!(secret = %name, ?namespace, "a task was refused a secret");
        let message = match namespace {
            Some(namespace) => {
                format!("this worker does not give secret `{name}` to namespace `{namespace}`")
            }
            None => format!(
                "this worker gives secret `{name}` to some namespaces only, and its coordinator is \
                 too old to say which one this is"
            ),
        };
        Err(Failure::new(Cause::of(CauseKind::Policy), &message))
    }
}

fn unreadable(name: &Name, reason: &str) -> Failure {
    tracing::warn!(secret = %name, reason, "a task cannot be given its secret");
    cannot_start(&format!("secret `{name}` of this worker cannot be used: {reason}"))
}

#[cfg(test)]
mod tests;
