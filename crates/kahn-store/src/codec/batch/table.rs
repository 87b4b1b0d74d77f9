//! Ids that are written once and referred to by position.

use std::collections::HashMap;
use std::hash::Hash;

/// With more entries than this a map is used; with fewer, a linear search is faster.
const LINEAR_MAX: usize = 32;

/// Distinct keys in the order of their first use.
#[derive(Debug)]
pub(super) struct Table<K> {
    entries: Vec<K>,
    last: usize,
    positions: HashMap<K, usize>,
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self { entries: Vec::new(), last: 0, positions: HashMap::new() }
    }
}

impl<K: Eq + Hash + Clone> Table<K> {
    /// Returns the position of `key`, adding it if it is new.
    pub(super) fn position(&mut self, key: &K) -> u32 {
        self.position_of(|known| known == key, || key.clone())
    }

    /// Returns the position of the entry that satisfies `is`, adding the result of `make` if there
    /// is none.
    pub(super) fn position_of(&mut self, is: impl Fn(&K) -> bool, make: impl Fn() -> K) -> u32 {
        if !self.entries.get(self.last).is_some_and(&is) {
            self.last = match self.find(is, &make) {
                Some(position) => position,
                None => self.add(&make()),
            };
        }
        u32::try_from(self.last).expect("invariant: a batch has fewer than 2^32 changes")
    }

    fn find(&self, is: impl Fn(&K) -> bool, make: impl Fn() -> K) -> Option<usize> {
        if self.entries.len() > LINEAR_MAX {
            return self.positions.get(&make()).copied();
        }
        // Keys tend to repeat in the same order, so the search starts where the last one ended.
        let (before, after) = self.entries.split_at(self.entries.len().min(self.last + 1));
        let later = after.iter().position(&is).map(|position| before.len() + position);
        later.or_else(|| before.iter().position(is))
    }

    fn add(&mut self, key: &K) -> usize {
        let position = self.entries.len();
        self.entries.push(key.clone());
        if self.entries.len() > LINEAR_MAX {
            let start = if self.positions.is_empty() { 0 } else { position };
            let new = self.entries.iter().enumerate().skip(start);
            self.positions.extend(new.map(|(at, key)| (key.clone(), at)));
        }
        position
    }

    pub(super) fn into_entries(self) -> Vec<K> {
        self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn each_key_keeps_the_position_of_its_first_use() {
        let mut table = Table::default();
        for round in 0..3 {
            for key in 0..50u32 {
                assert_eq!(table.position(&(key * 7)), key, "round {round}");
            }
        }
        assert_eq!(table.into_entries(), (0..50).map(|key| key * 7).collect::<Vec<_>>());
    }
}
