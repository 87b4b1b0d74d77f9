//! Writes and reads columns that are omitted if all their entries are the same.

use kahn_model::TaskIx;

use crate::convert::ConvertError;

/// Returns the entries, or nothing if all of them are `usual`.
pub(super) fn sparse<T: PartialEq + Copy>(
    entries: impl Iterator<Item = T> + Clone,
    usual: T,
) -> Vec<T> {
    if entries.clone().all(|entry| entry == usual) { Vec::new() } else { entries.collect() }
}

/// Checks that an optional column is empty or has `n` entries.
pub(super) fn check_sparse(
    field: &'static str,
    found: usize,
    n: usize,
) -> Result<(), ConvertError> {
    if found == 0 { Ok(()) } else { ConvertError::length(field, found, n) }
}

/// Returns the element of `table` that the column's entry `at` points to, or the first if the
/// column is omitted.
pub(super) fn pick<'a, T>(
    field: &'static str,
    column: &[u32],
    at: usize,
    table: &'a [T],
) -> Result<&'a T, ConvertError> {
    let position = column.get(at).copied().unwrap_or(0);
    let limit = table.len().saturating_sub(1);
    table
        .get(TaskIx(position).index())
        .ok_or_else(|| ConvertError::out_of_range(field, position, limit))
}

/// Entries that only some tasks have, in ascending order of tasks.
pub(super) struct Sparse<T, F> {
    entries: std::iter::Peekable<std::vec::IntoIter<T>>,
    task_of: F,
}

impl<T, F: Fn(&T) -> u32> Sparse<T, F> {
    pub(super) fn new(entries: Vec<T>, task_of: F) -> Self {
        Self { entries: entries.into_iter().peekable(), task_of }
    }

    /// Returns the entry of the task `at`. Must be called in ascending order.
    pub(super) fn take(&mut self, at: usize) -> Option<T> {
        let task_of = &self.task_of;
        self.entries.next_if(|entry| TaskIx(task_of(entry)).index() == at)
    }

    /// Checks that all entries were taken.
    pub(super) fn finish(mut self, field: &'static str) -> Result<(), ConvertError> {
        let left = self.entries.next();
        left.map_or(Ok(()), |entry| {
            // Either there is no such task, or the entries are not in ascending order.
            Err(ConvertError::out_of_range(field, (self.task_of)(&entry), -1))
        })
    }
}

/// A string that is split into pieces from its start.
pub(super) struct Pieces<'a> {
    field: &'static str,
    text: &'a str,
    at: usize,
}

impl<'a> Pieces<'a> {
    pub(super) fn new(field: &'static str, text: &'a str) -> Self {
        Self { field, text, at: 0 }
    }

    /// Returns the next piece, of `length` bytes.
    pub(super) fn take(&mut self, length: usize) -> Result<&'a str, ConvertError> {
        let end = self.at + length;
        let piece = self.text.get(self.at..end);
        self.at = end;
        piece.ok_or(ConvertError::Length {
            field: self.field,
            found: self.text.len(),
            expected: end,
        })
    }

    /// Checks that the whole string was consumed.
    pub(super) fn finish(self) -> Result<(), ConvertError> {
        ConvertError::length(self.field, self.text.len(), self.at)
    }
}
