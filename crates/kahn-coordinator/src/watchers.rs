//! Watchers of runs, notified about changes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
#[derive(Clone, Debug)]
pub(crate) struct Watchers(Arc<Mutex<Option<Senders>>>);

type Senders = BTreeMap<RunId, watch::Sender<News>>;

impl Default for Watchers {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Some(Senders::new()))))
    }
}

impl Watchers {
    /// Returns a receiver that is notified about every change of `run`, and closed when this
    /// leadership ends.
    pub(crate) fn watch(&self, run: RunId) -> watch::Receiver<News> {
        match &mut *self.lock() {
            Some(all) => {
                all.retain(|_, sender| sender.receiver_count() > 0);
                all.entry(run).or_insert_with(|| watch::Sender::new(News::default())).subscribe()
            }
            None => watch::Sender::new(News::default()).subscribe(),
        }
    }

    pub(crate) fn notify(&self, core: &Core, run: RunId) {
        if let Some(sender) = self.lock().as_ref().and_then(|all| all.get(&run)) {
            let is_over = core.state().summary(run).is_none_or(|run| run.state.is_terminal());
            sender.send_modify(|news| {
                news.version += 1;
                news.is_over = is_over;
            });
        }
    }

    /// Closes all receivers, but not those of later watchers.
    pub(crate) fn end(&self) {
        if let Some(all) = &mut *self.lock() {
            all.clear();
        }
    }

    /// Closes all receivers, those of later watchers included.
    pub(crate) fn close(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Senders>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
