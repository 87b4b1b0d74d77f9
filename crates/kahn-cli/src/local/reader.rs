//! Reads a run: from a coordinator, or from the local state of a run of `kahn run`.

use kahn_client::Client;
use kahn_model::{RunId, RunRef};
use kahn_runtime::telemetry::Traces;

use super::{Cluster, Durability, RunDir, StoreKind};
use crate::context::Context;
use crate::exit::Failure;

/// A source of information about a run.
#[derive(Debug)]
pub(crate) struct Reader {
    /// The client to query.
    pub client: Client,
    /// The ID of the run.
    pub run: RunId,
    opened: Option<(Cluster, RunDir)>,
}

impl Reader {
    /// Finds the source for `run`. An explicitly given coordinator is always used. Otherwise the
    /// state of a local run is opened, without a worker, so that the run does not continue.
    pub(crate) async fn of_run(context: &Context, run: RunRef) -> Result<Self, Failure> {
        let found = match context.given_url() {
            Some(_) => None,
            None => super::find(&super::root(&context.data_dir()), run)?,
        };
        let Some((path, id)) = found else {
            let client = context.client().await?;
            let run = match run {
                RunRef::Id(id) => id,
                RunRef::Prefix(_) | RunRef::Last => client.get(run).await?.id,
            };
            return Ok(Self { client, run, opened: None });
        };
        let dir = RunDir::open(&path)?;
        let cluster =
            Cluster::open(&path, StoreKind::Embedded, Durability::Process, Traces::off()).await?;
        Ok(Self { client: cluster.client.clone(), run: id, opened: Some((cluster, dir)) })
    }

    /// Returns whether local state was opened without a worker, so that the run cannot progress.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.opened.is_some()
    }

    /// Closes the local state, if open.
    pub(crate) async fn close(self) {
        if let Some((cluster, dir)) = self.opened {
            cluster.stop().await;
            drop(dir);
        }
    }
}
