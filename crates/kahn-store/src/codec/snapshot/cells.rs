//! The states of all tasks, stored in columns.

use bytes::Bytes;
use kahn_core::CellSnapshot;
use kahn_proto::convert::{ConvertError, state};
use kahn_proto::storage as wire;

use crate::codec::CodecError;

pub(super) fn to_wire(cells: &[CellSnapshot]) -> wire::Cells {
    let mut last = 0u32;
    let age = |cell: &CellSnapshot| {
        let step = i64::from(cell.age) - i64::from(last);
        last = cell.age;
        step
    };
    wire::Cells {
        states: cells.iter().map(|cell| state::task_state_number(cell.state)).collect(),
        flags: bytes(cells, |cell| cell.flags),
        attempts: sparse(cells, |cell| cell.attempt.into()),
        tries: sparse(cells, |cell| cell.tries.into()),
        crashes: bytes(cells, |cell| cell.crashes),
        pending: sparse(cells, |cell| cell.pending),
        ages: if cells.iter().all(|cell| cell.age == 0) {
            Vec::new()
        } else {
            cells.iter().map(age).collect()
        },
    }
}

fn sparse(cells: &[CellSnapshot], of: impl Fn(&CellSnapshot) -> u32) -> Vec<u32> {
    if cells.iter().all(|cell| of(cell) == 0) {
        return Vec::new();
    }
    cells.iter().map(of).collect()
}

fn bytes(cells: &[CellSnapshot], of: impl Fn(&CellSnapshot) -> u8) -> Bytes {
    if cells.iter().all(|cell| of(cell) == 0) {
        return Bytes::new();
    }
    cells.iter().map(of).collect()
}

pub(super) fn from_wire(cells: &wire::Cells) -> Result<Vec<CellSnapshot>, CodecError> {
    let n = cells.states.len();
    for (field, found) in [
        ("cells.flags", cells.flags.len()),
        ("cells.attempts", cells.attempts.len()),
        ("cells.tries", cells.tries.len()),
        ("cells.crashes", cells.crashes.len()),
        ("cells.pending", cells.pending.len()),
        ("cells.ages", cells.ages.len()),
    ] {
        if found != 0 && found != n {
            return Err(ConvertError::Length { field, found, expected: n }.into());
        }
    }
    let mut last = 0u32;
    (0..n)
        .map(|at| {
            last = age("cells.ages", last, cells.ages.get(at).copied().unwrap_or(0))?;
            Ok(CellSnapshot {
                state: state::task_state("cells.states", cells.states[at])?,
                flags: cells.flags.get(at).copied().unwrap_or(0),
                attempt: small("cells.attempts", &cells.attempts, at)?,
                tries: small("cells.tries", &cells.tries, at)?,
                crashes: cells.crashes.get(at).copied().unwrap_or(0),
                pending: cells.pending.get(at).copied().unwrap_or(0),
                age: last,
            })
        })
        .collect()
}

fn age(field: &'static str, last: u32, step: i64) -> Result<u32, CodecError> {
    let age = i64::from(last).checked_add(step).map(u32::try_from);
    let Some(Ok(age)) = age else {
        return Err(ConvertError::OutOfRange { field, found: step, limit: u32::MAX.into() }.into());
    };
    Ok(age)
}

/// Reads an entry that the state keeps in 16 bits.
pub(super) fn small(field: &'static str, column: &[u32], at: usize) -> Result<u16, CodecError> {
    let found = column.get(at).copied().unwrap_or(0);
    let limit = u16::MAX.into();
    u16::try_from(found)
        .map_err(|_| ConvertError::OutOfRange { field, found: found.into(), limit }.into())
}
