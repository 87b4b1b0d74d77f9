//! Determines the owners of containers, and removes the containers of dead workers.

use std::collections::HashMap;
use std::path::Path;

use kahn_model::AttemptId;

use super::directory::is_abandoned;
use super::engine::Engine;

const WORKER_LABEL: &str = "dev.kahn.worker";
const HOME_LABEL: &str = "dev.kahn.home";
const RUN_LABEL: &str = "dev.kahn.run";
const TASK_LABEL: &str = "dev.kahn.task";
const ATTEMPT_LABEL: &str = "dev.kahn.attempt";

/// The worker that owns containers. Workers on one host may share a name, but not a directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner<'a> {
    pub(super) worker: &'a str,
    pub(super) home: &'a Path,
}

impl Owner<'_> {
    /// Returns the labels of an attempt's container.
    pub(super) fn labels(&self, attempt: AttemptId, task_name: &str) -> HashMap<String, String> {
        [
            (WORKER_LABEL, self.worker.to_owned()),
            (HOME_LABEL, self.home.display().to_string()),
            (RUN_LABEL, attempt.run.to_string()),
            (TASK_LABEL, task_name.to_owned()),
            (ATTEMPT_LABEL, attempt.number.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// Returns whether a container belongs to this worker, or to a dead worker with the same name.
    fn may_remove(&self, labels: &HashMap<String, String>) -> bool {
        let home = labels.get(HOME_LABEL).map(Path::new);
        home.is_some_and(|home| home == self.home || is_abandoned(home))
    }
}

/// Removes the containers left by earlier boots of this worker. Must be called before it creates
/// any.
pub(super) async fn remove(engine: &Engine, owner: &Owner<'_>) -> Result<(), String> {
    let found = engine.labelled([(WORKER_LABEL, owner.worker)]).await.map_err(|e| e.to_string())?;
    let mut n_removed = 0;
    for (id, _) in found.iter().filter(|(_, labels)| owner.may_remove(labels)) {
        engine.remove(id).await;
        n_removed += 1;
    }
    if n_removed > 0 {
        tracing::warn!(n_removed, "removed containers that an earlier boot left");
    }
    Ok(())
}

/// Removes a container that may exist because the engine did not confirm whether it was created.
pub(super) async fn remove_uncertain(engine: &Engine, labels: &HashMap<String, String>) {
    let wanted = labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    match engine.labelled(wanted).await {
        Ok(found) => {
            for (id, _) in &found {
                engine.remove(id).await;
            }
        }
        Err(error) => tracing::warn!(%error, "a container that never ran may be left behind"),
    }
}
