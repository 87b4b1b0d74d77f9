//! Who is asked about a run: a coordinator, or for a run of `kahn run` its own state.

use kahn_client::Client;
use kahn_model::{RunId, RunRef};
use kahn_runtime::telemetry::Traces;

use super::{Cluster, Durability, RunDir, StoreKind};
use crate::context::Context;
use crate::exit::Failure;

/// Somebody who knows a run.
#[derive(Debug)]
pub(crate) struct Reader {
    /// Speaks to it.
    pub client: Client,
    /// The id of the run.
    pub run: RunId,
    opened: Option<(Cluster, RunDir)>,
}

impl Reader {
    /// Finds who knows `run`. A coordinator that was named is asked in any case. Otherwise the state
    /// of a run on this machine is opened, without a worker, so that the run does not continue.
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

    /// Whether the state was opened without a worker, so that nothing goes on.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.opened.is_some()
    }

    /// Lets go of what was opened.
    pub(crate) async fn close(self) {
        if let Some((cluster, dir)) = self.opened {
            cluster.stop().await;
            drop(dir);
        }
    }
}
