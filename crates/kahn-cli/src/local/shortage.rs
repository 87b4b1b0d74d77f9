//! Tasks that this machine can never run.

use std::collections::BTreeMap;

use kahn_core::Shape;
use kahn_model::Namespace;
use kahn_spec::{Diagnostics, Shortage, diagnose_shortages};
use kahn_worker::Offer;

use crate::dag_file::DagFile;

/// Shortages that are told; more of them help nobody.
const TOLD_MAX: usize = 20;

const HELP: &str = "ask for less, or submit it to a cluster that has such a worker; \
                    `--capacity` says what tasks may use here";

/// Tasks of the file that a worker with this offer can never run in the default namespace; `None`
/// when it can run all.
pub(crate) fn shortages(file: &DagFile, offer: &Offer) -> Option<Diagnostics> {
    let dag = &file.compiled.dag;
    let namespace = Namespace::default();
    let shape = Shape {
        capacity: offer.capacity.clone(),
        labels: offer.labels.clone(),
        executors: offer.executors.iter().copied().collect(),
    };
    // Tasks of the same profile and kind ask for the same.
    let mut found: BTreeMap<_, Option<Shortage>> = BTreeMap::new();
    for task in dag.tasks() {
        let same = (dag.profile_index(task), dag.work(task).action.kind());
        let shortage = found.entry(same).or_insert_with(|| {
            kahn_core::shortage(dag, &namespace, task, &shape).map(|lack| Shortage {
                task: dag.task_name(task).to_owned(),
                n_tasks: 0,
                message: format!("this machine {lack}"),
            })
        });
        if let Some(shortage) = shortage {
            shortage.n_tasks += 1;
        }
    }
    let all: Vec<Shortage> = found.into_values().flatten().take(TOLD_MAX).collect();
    (!all.is_empty()).then(|| diagnose_shortages(&file.source, &file.name, &all, HELP))
}
