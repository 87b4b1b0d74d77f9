//! Who is asked about a run: a coordinator, or for a run of `kahn run` its own state.

use kahn_client::Client;
use kahn_model::RunId;
use kahn_runtime::telemetry::Traces;

use super::{Cluster, Durability, RunDir, StoreKind};
use crate::context::Context;
use crate::exit::Failure;

/// Somebody who knows a run.
#[derive(Debug)]
pub(crate) struct Reader {
    /// Speaks to it.
    pub client: Client,
    opened: Option<(Cluster, RunDir)>,
}

impl Reader {
    /// Who knows `run`. A coordinator that was named is asked in any case; else the state of a run
    /// on this machine is opened, without a worker, so that nothing of it goes on.
    pub(crate) async fn of_run(context: &Context, run: RunId) -> Result<Self, Failure> {
        let path = match context.given_url() {
            Some(_) => None,
            None => super::find(&super::root(&context.data_dir()), run),
        };
        let Some(path) = path else {
            return Ok(Self { client: context.client().await?, opened: None });
        };
        let dir = RunDir::open(&path)?;
        let cluster =
            Cluster::open(&path, StoreKind::Embedded, Durability::Process, Traces::off()).await?;
        Ok(Self { client: cluster.client.clone(), opened: Some((cluster, dir)) })
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
