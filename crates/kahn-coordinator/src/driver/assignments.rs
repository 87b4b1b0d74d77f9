//! Encoded assignments. Tasks with the same execution settings share one encoding.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kahn_core::Grant;
use kahn_model::{Namespace, Profile, Resources, Work};
use kahn_proto::{convert, worker};
use prost::Message as _;

/// Maximum number of cached encodings; beyond that, all of them are dropped.
const ENTRIES_MAX: usize = 4096;

/// The source of an encoding. Keeping it alive prevents the reuse of its address.
struct Entry {
    _work: Arc<Work>,
    _profile: Arc<Profile>,
    _resources: Arc<Resources>,
    bytes: Bytes,
}

/// Addresses of work, profile and resources, how often the timeout was extended, and the namespace,
/// since runs of several namespaces may share one DAG.
type Key = (usize, usize, usize, u32, Namespace);

/// A cache of encoded assignments.
#[derive(Default)]
pub(super) struct Assignments {
    entries: BTreeMap<Key, Entry>,
}

impl Assignments {
    /// Returns the encoding of a grant's assignment.
    pub(super) fn encode(&mut self, grant: &Grant) -> Bytes {
        let profile = grant.dag.profile(grant.attempt.task);
        let key = (
            Arc::as_ptr(&grant.work).addr(),
            Arc::as_ptr(profile).addr(),
            Arc::as_ptr(&grant.resources).addr(),
            grant.timed_out,
            grant.namespace.clone(),
        );
        if let Some(entry) = self.entries.get(&key) {
            return entry.bytes.clone();
        }
        if self.entries.len() >= ENTRIES_MAX {
            self.entries.clear();
        }
        let bytes = Bytes::from(describe(grant, profile).encode_to_vec());
        let entry = Entry {
            _work: Arc::clone(&grant.work),
            _profile: Arc::clone(profile),
            _resources: Arc::clone(&grant.resources),
            bytes: bytes.clone(),
        };
        self.entries.insert(key, entry);
        bytes
    }
}

fn describe(grant: &Grant, profile: &Profile) -> worker::Assignment {
    let mut timeouts = profile.timeouts;
    timeouts.run = timeouts.run.map(|run| {
        let micros = u64::try_from(run.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(profile.retry.timeout.apply(micros, grant.timed_out))
    });
    worker::Assignment {
        work: Some(convert::work::to_wire(&grant.work)),
        resources: Some(convert::resources::to_wire(&grant.resources)),
        timeouts: Some(convert::profile::timeouts_to_wire(&timeouts)),
        on_disconnect: convert::profile::on_disconnect_to_wire(profile.on_disconnect).into(),
        namespace: Some(grant.namespace.to_string()),
    }
}
