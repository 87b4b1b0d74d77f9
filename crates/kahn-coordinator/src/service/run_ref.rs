//! Resolves references to runs.

use kahn_core::Core;
use kahn_model::{RunId, RunIdPrefix, RunRef};

use super::error::{ErrorKind, ServiceError};

/// Returns the id of the run. A run given by its full id need not exist.
pub(super) fn resolve(core: &Core, run: RunRef) -> Result<RunId, ServiceError> {
    match run {
        RunRef::Id(id) => Ok(id),
        RunRef::Prefix(prefix) => only_one(core, &prefix),
        RunRef::Last => {
            let runs = core.state().summaries_before(None);
            let last = runs.max_by_key(|run| (run.submitted_at, run.run)).map(|run| run.run);
            last.ok_or_else(|| ServiceError::not_found("there is no run yet"))
        }
    }
}

fn only_one(core: &Core, prefix: &RunIdPrefix) -> Result<RunId, ServiceError> {
    let mut found = core.state().ids_between(prefix.first(), prefix.last()).into_iter();
    let Some(id) = found.next() else {
        let message =
            format!("no run has an id that begins with {prefix}; list the runs to see them");
        return Err(ServiceError::not_found(message));
    };
    let Some(other) = found.next() else { return Ok(id) };
    let more = match found.count() {
        0 => String::new(),
        n => format!(", and {n} more"),
    };
    let reason =
        format!("several ids begin with {prefix}: {id}, {other}{more}; give more characters");
    Err(ServiceError::new(ErrorKind::Invalid, format!("run: {reason}")))
}
