//! Columns of a batch that is being decoded.

use std::vec::IntoIter;

use kahn_model::TaskIx;
use kahn_proto::convert::ConvertError;

use crate::codec::CodecError;

/// A column, read from front to back.
#[derive(Debug)]
pub(super) struct Column<T> {
    name: &'static str,
    entries: IntoIter<T>,
}

impl<T> Column<T> {
    pub(super) fn new(name: &'static str, entries: Vec<T>) -> Self {
        Self { name, entries: entries.into_iter() }
    }

    pub(super) fn take(&mut self) -> Result<T, CodecError> {
        self.entries.next().ok_or(CodecError::ColumnShort { column: self.name })
    }

    /// Checks that the column was consumed completely.
    pub(super) fn finish(&self) -> Result<(), CodecError> {
        if self.entries.len() == 0 {
            return Ok(());
        }
        Err(CodecError::ColumnLong { column: self.name })
    }
}

/// Returns the column, or `None` if it is empty because all its entries are zero.
pub(super) fn optional(name: &'static str, entries: Vec<u64>) -> Option<Column<u64>> {
    (!entries.is_empty()).then(|| Column::new(name, entries))
}

/// Returns an entry of a table.
pub(super) fn entry<'a, T>(
    name: &'static str,
    table: &'a [T],
    position: u32,
) -> Result<&'a T, CodecError> {
    table.get(TaskIx(position).index()).ok_or_else(|| {
        let limit = table.len().saturating_sub(1);
        ConvertError::OutOfRange {
            field: name,
            found: position.into(),
            limit: i64::try_from(limit).unwrap_or(i64::MAX),
        }
        .into()
    })
}
