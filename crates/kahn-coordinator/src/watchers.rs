//! Watchers of runs, notified about changes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use kahn_core::Core;
use kahn_model::RunId;
use tokio::sync::watch;

/// The notification of a watcher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// Incremented with every change.
    pub version: u64,
    /// Whether the run has ended or was removed.
    pub is_over: bool,
}

/// Watchers by run. A std mutex suffices, since it is held only for a look-up and never across an
/// await.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watchers(Arc<Mutex<BTreeMap<RunId, watch::Sender<News>>>>);

impl Watchers {
    /// Returns a receiver that is notified about every change of `run`.
    pub(crate) fn watch(&self, run: RunId) -> watch::Receiver<News> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, sender| sender.receiver_count() > 0);
        all.entry(run).or_insert_with(|| watch::Sender::new(News::default())).subscribe()
    }

    pub(crate) fn notify(&self, core: &Core, run: RunId) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = all.get(&run) {
            let is_over = core.state().run(run).is_none_or(|run| run.state.is_terminal());
            sender.send_modify(|news| {
                news.version += 1;
                news.is_over = is_over;
            });
        }
    }
}
