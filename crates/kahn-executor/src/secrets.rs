//! Secrets: named by tasks, and known to the worker alone.
//!
//! The operator says in `[worker.secrets]` what there is, and where it comes from; a task names
//! what it uses, and nothing else can be had. A worker advertises a label for each secret. They are
//! read for each attempt anew, here and nowhere else, so that one that changes is used from the
//! next attempt on. What an attempt was given is masked in its log, in the words of its failure and
//! in nothing else: outputs that hold a secret are refused, since a mask in data would be taken for
//! data.
//!
//! Masks guard against accidents. A task that wants to tell what it was given can always find a
//! form that no mask knows.

mod directory;
mod forms;
mod given;
mod mask;
mod source;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use kahn_model::{Cause, CauseKind, Failure, Name, SecretUse, Usage};

use crate::{Assignment, Control, Executor, Report};
use directory::Directory;
use source::Source;

pub use given::{CONTAINER_DIR, GivenSecrets};
pub use mask::{Mask, MaskStream};
pub use source::SecretSource;

/// Most bytes of all secrets of one task together: masks grow with them.
const ALL_BYTES_MAX: usize = 64 << 10;

/// A secret that cannot be defined as configured.
#[derive(Debug, thiserror::Error)]
#[error("worker.secrets.{name}: {reason}")]
pub struct InvalidSecret {
    /// The secret.
    pub name: String,
    /// What is wrong; contains nothing of the value.
    pub reason: String,
}

/// The secrets that a worker has.
#[derive(Debug)]
pub struct Secrets {
    known: BTreeMap<Name, Source>,
    directory: Directory,
}

impl Secrets {
    /// The secrets of a configuration; `environment` is that of the process. Files for tasks go to
    /// `dir`, or else to memory, or else to `data_dir`.
    ///
    /// # Errors
    ///
    /// When a name is not one, or a variable is not there.
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

    /// The labels by which tasks find the worker.
    pub fn labels(&self) -> impl Iterator<Item = String> {
        self.known.keys().map(|name| SecretUse::label_of(name.as_str()))
    }

    /// Has an executor carry out an attempt with the secrets that its work names.
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
                return Report { outcome: Err(failure), usage: Usage::default() };
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

    /// What the work names. Files may be slow, so they are not read on the event loop.
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

    /// Each secret once.
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

/// What the task needs to be started cannot be had: `image`, as for a program that is not there.
fn cannot_start(message: &str) -> Failure {
    Failure::new(Cause::of(CauseKind::Image), message)
}

#[cfg(test)]
mod tests;
