//! Whether the process can do its work, and if not, why.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// Named checks, each set by the part of the process that it speaks of. Clones share them.
///
/// A process with an unset check is ready: name every check, as failed, before it can succeed.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<RwLock<BTreeMap<&'static str, String>>>);

impl Readiness {
    /// Ready until a check says otherwise.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets one check: well, or why not.
    pub fn set(&self, check: &'static str, state: Result<(), String>) {
        let mut failing = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match state {
            Ok(()) => failing.remove(check),
            Err(reason) => failing.insert(check, reason),
        };
    }

    /// The checks that fail, with their reasons, by name.
    #[must_use]
    pub fn failing(&self) -> BTreeMap<&'static str, String> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether no check fails.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}
