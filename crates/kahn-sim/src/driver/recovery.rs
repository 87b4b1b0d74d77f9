//! The initial state of a term, and the hash chain that distinguishes our log from any other.

use std::fmt::Write as _;
use std::sync::Arc;

use kahn_core::log::{Hash, Head, Term};
use kahn_core::{Change, Core, Settings, Snapshot};
use kahn_model::Timestamp;

use super::Payload;
use crate::digest::Digest;

/// The content of one partition when the term began.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) term: Term,
    pub(crate) head: Head,
    /// The head that the checkpoint covers.
    pub(crate) from: Head,
    pub(crate) checkpoint: Option<Arc<Snapshot>>,
    pub(crate) entries: Vec<Payload>,
    /// When the term was requested.
    pub(crate) asked_at: Timestamp,
}

/// Rebuilds the core from the logs of all partitions. Returns it with the latest time in them.
///
/// Changes of different partitions are replayed in the order of their times.
pub(crate) fn recover(settings: Settings, loaded: &[Loaded]) -> (Core, Timestamp) {
    let mut core = Core::new(settings);
    for checkpoint in loaded.iter().filter_map(|one| one.checkpoint.as_ref()) {
        core.restore(Snapshot::clone(checkpoint));
    }
    let mut changes: Vec<&(Timestamp, Change)> =
        loaded.iter().flat_map(|one| one.entries.iter().flat_map(|entry| entry.iter())).collect();
    changes.sort_by_key(|(at, _)| *at);
    for (at, change) in changes {
        core.replay(*at, change);
    }
    let latest = core.state().now();
    (core, latest)
}

/// Returns the hash after appending `changes` to `prev`.
pub(crate) fn link(prev: Hash, changes: &[(Timestamp, Change)]) -> Hash {
    let mut out = [0; 16];
    for (salt, half) in (1..).zip(out.chunks_exact_mut(8)) {
        let mut digest = Digest::new(salt);
        for word in prev.0.chunks_exact(8) {
            digest.add(u64::from_le_bytes(word.try_into().expect("invariant: 8 bytes")));
        }
        for (at, change) in changes {
            digest.add(at.0);
            write!(digest, "{change}").expect("invariant: a digest takes everything");
        }
        half.copy_from_slice(&digest.value().to_le_bytes());
    }
    Hash(out)
}
