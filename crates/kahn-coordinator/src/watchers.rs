//! Who wants to know when there is more to see of a run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use kahn_core::Core;
use kahn_model::RunId;
use tokio::sync::watch;

/// What a watcher is woken with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// Grows with every change.
    pub version: u64,
    /// Whether the run has ended, or is gone.
    pub is_over: bool,
}

/// Watchers by run. A std mutex: held for a look-up only, never across an await.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watchers(Arc<Mutex<BTreeMap<RunId, watch::Sender<News>>>>);

impl Watchers {
    /// Wakes from now on whenever there is news of `run`.
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
