//! A standby's copy of the state, which follows the logs.

use kahn_core::log::Head;
use kahn_core::{Core, Settings, Snapshot};
use kahn_model::Timestamp;

use super::{Loaded, Payload, link};

/// What a standby reads from a partition.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    /// The latest checkpoint, if the standby needs an entry that it has replaced.
    pub(crate) checkpoint: Option<(Head, Snapshot)>,
    /// Entries with their heads.
    pub(crate) entries: Vec<(Head, Payload)>,
}

/// A copy of the state of all partitions.
#[derive(Debug)]
pub(crate) struct Follower {
    settings: Settings,
    core: Core,
    heads: Vec<Head>,
    latest: Timestamp,
}

impl Follower {
    pub(crate) fn new(settings: Settings) -> Self {
        let heads = vec![Head::GENESIS; usize::from(settings.partitions)];
        let core = Core::new(settings.clone());
        Self { settings, core, heads, latest: Timestamp::ZERO }
    }

    /// Returns how far a partition was read.
    pub(crate) fn head(&self, partition: usize) -> Head {
        self.heads[partition]
    }

    /// Replays a page. Starts again if it does not continue what was read before.
    pub(crate) fn read(&mut self, partition: usize, page: Page) {
        if let Some((head, snapshot)) = page.checkpoint {
            if self.heads[partition] != Head::GENESIS {
                *self = Self::new(self.settings.clone());
            }
            self.latest = self.latest.max(snapshot.at);
            self.core.restore(snapshot);
            self.heads[partition] = head;
        }
        for (next, payload) in page.entries {
            if !self.replay(partition, next, &payload) {
                *self = Self::new(self.settings.clone());
                return;
            }
        }
    }

    fn replay(&mut self, partition: usize, next: Head, payload: &Payload) -> bool {
        let head = self.heads[partition];
        if next.seq != head.seq + 1 || next.hash != link(head.hash, payload) {
            return false;
        }
        for (at, change) in payload.iter() {
            self.latest = self.latest.max(*at);
            self.core.replay(*at, change);
        }
        self.heads[partition] = next;
        true
    }

    /// Replays the rest of what was loaded. Returns the state and its latest time, or `None` if
    /// the logs do not continue what was read.
    pub(crate) fn finish(mut self, loaded: &[Loaded]) -> Option<(Core, Timestamp)> {
        for (partition, one) in loaded.iter().enumerate() {
            let mut at = one.from;
            for payload in &one.entries {
                let next = Head { seq: at.seq + 1, hash: link(at.hash, payload) };
                if self.heads[partition] == at && !self.replay(partition, next, payload) {
                    return None;
                }
                at = next;
            }
            if self.heads[partition] != one.head {
                return None;
            }
        }
        Some((self.core, self.latest))
    }
}
