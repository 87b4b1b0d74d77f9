//! A vector with stable indexes for entries that are added and removed.

use std::ops::{Index, IndexMut};

/// Values at stable indexes; indexes of removed values are reused.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    entries: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }
}

fn index(at: u32) -> usize {
    usize::try_from(at).expect("invariant: usize holds u32")
}

impl<T> Slab<T> {
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        match self.free.pop() {
            Some(at) => {
                self.entries[index(at)] = Some(value);
                at
            }
            None => {
                let at = u32::try_from(self.entries.len()).expect("invariant: below 2^32 entries");
                self.entries.push(Some(value));
                at
            }
        }
    }

    pub(crate) fn remove(&mut self, at: u32) -> T {
        self.free.push(at);
        self.entries[index(at)].take().expect("invariant: removed once")
    }

    pub(crate) fn get(&self, at: u32) -> Option<&T> {
        self.entries.get(index(at))?.as_ref()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(&self.entries).filter_map(|(at, entry)| Some((at, entry.as_ref()?)))
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, at: u32) -> &T {
        self.entries[index(at)].as_ref().expect("invariant: the position is in use")
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, at: u32) -> &mut T {
        self.entries[index(at)].as_mut().expect("invariant: the position is in use")
    }
}
