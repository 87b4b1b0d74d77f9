//! Archived runs that were read recently.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use kahn_core::{ArchiveRef, Core};
use kahn_model::RunId;
use tokio::sync::OnceCell;

/// Maximum size of all runs that are kept, unless a single one is larger.
const KEPT_BYTES: u64 = 64 << 20;
/// How much more memory a run takes than its document, at most.
const GROWTH: u64 = 8;
/// The size as which a smaller run counts, so that there are no more than 1024.
const COUNTED_BYTES_MIN: u64 = KEPT_BYTES / 1024;

/// A run that was read, or is being read.
pub(super) type Cell = Arc<OnceCell<Arc<Core>>>;

/// The runs that were read most recently.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    entries: BTreeMap<(RunId, [u8; 16]), Entry>,
    bytes: u64,
    n_uses: u64,
}

#[derive(Debug)]
struct Entry {
    cell: Cell,
    bytes: u64,
    /// The number of its latest use.
    used: u64,
}

impl Cache {
    /// Returns the cell of a run. All who ask for it at the same time get the same one.
    pub(super) fn entry(&self, run: RunId, archive: ArchiveRef) -> Cell {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.n_uses += 1;
        let (used, key) = (kept.n_uses, (run, archive.digest));
        if let Some(entry) = kept.entries.get_mut(&key) {
            entry.used = used;
            return Arc::clone(&entry.cell);
        }
        let bytes = archive.bytes.saturating_mul(GROWTH).max(COUNTED_BYTES_MIN);
        kept.make_room(bytes);
        let cell = Cell::default();
        kept.bytes = kept.bytes.saturating_add(bytes);
        kept.entries.insert(key, Entry { cell: Arc::clone(&cell), bytes, used });
        cell
    }
}

impl Kept {
    /// Drops the runs that were not used for the longest time.
    fn make_room(&mut self, bytes: u64) {
        while self.bytes.saturating_add(bytes) > KEPT_BYTES {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used);
            let Some(key) = oldest.map(|(key, _)| *key) else { return };
            if let Some(entry) = self.entries.remove(&key) {
                self.bytes = self.bytes.saturating_sub(entry.bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kahn_model::Uuid;

    use super::*;

    fn archive(bytes: u64) -> ArchiveRef {
        ArchiveRef { bytes, digest: [0; 16] }
    }

    fn id(n: u128) -> RunId {
        RunId::new(Uuid::from_u128(n))
    }

    #[test]
    fn those_who_ask_for_the_same_run_share_it() {
        let cache = Cache::default();
        let one = cache.entry(id(1), archive(1));
        assert!(Arc::ptr_eq(&one, &cache.entry(id(1), archive(1))));
        let other = ArchiveRef { digest: [1; 16], ..archive(1) };
        assert!(!Arc::ptr_eq(&one, &cache.entry(id(1), other)), "it has changed");
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let cache = Cache::default();
        let half = archive(KEPT_BYTES / GROWTH / 2);
        let (one, two) = (cache.entry(id(1), half), cache.entry(id(2), half));
        assert!(Arc::ptr_eq(&one, &cache.entry(id(1), half)));
        cache.entry(id(3), half);
        assert!(Arc::ptr_eq(&one, &cache.entry(id(1), half)));
        assert!(!Arc::ptr_eq(&two, &cache.entry(id(2), half)));
    }

    #[test]
    fn however_many_and_large_the_runs_are_what_is_kept_is_limited() {
        let cache = Cache::default();
        cache.entry(id(1), archive(u64::MAX));
        for n in 2..3000 {
            cache.entry(id(n), archive(1));
        }
        let kept = cache.0.lock().unwrap();
        assert!(kept.bytes <= KEPT_BYTES && kept.entries.len() <= 1024, "{}", kept.bytes);
    }
}
