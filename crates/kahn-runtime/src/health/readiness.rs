//! Whether the process is ready, and if not, why.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// Named checks, each set by the component it covers. Clones share state.
///
/// A check that was never set does not count: register every check as failed before it can succeed.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<RwLock<BTreeMap<&'static str, String>>>);

impl Readiness {
    /// Creates a readiness without checks, which is ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets one check to passed, or to failed with a reason.
    pub fn set(&self, check: &'static str, state: Result<(), String>) {
        let mut failing = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match state {
            Ok(()) => failing.remove(check),
            Err(reason) => failing.insert(check, reason),
        };
    }

    /// Returns the failed checks by name, with their reasons.
    #[must_use]
    pub fn failing(&self) -> BTreeMap<&'static str, String> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns whether no check has failed.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}
