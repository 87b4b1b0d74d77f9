//! Whose a container is, and removing those of workers that are gone.

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

/// The worker that makes containers. Two on one host may have one name, but not one directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner<'a> {
    pub(super) worker: &'a str,
    pub(super) home: &'a Path,
}

impl Owner<'_> {
    /// The labels of the container of an attempt.
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

    /// Whether a container belongs to this worker, or to one of its name that is gone.
    fn may_remove(&self, labels: &HashMap<String, String>) -> bool {
        let home = labels.get(HOME_LABEL).map(Path::new);
        home.is_some_and(|home| home == self.home || is_abandoned(home))
    }
}

/// Removes the containers that earlier boots of this worker left. It must have none of its own yet.
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

/// Removes what an attempt may have left at an engine that did not say whether it made it.
pub(super) async fn remove_uncertain(engine: &Engine, labels: &HashMap<String, String>) {
    let wanted = labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    match engine.labelled(wanted).await {
        Ok(found) => {
            for (id, _) in &found {
                engine.remove(id).await;
            }
        }
        Err(error) => tracing::warn!(%error, "a container that never ran may stay behind"),
    }
}
