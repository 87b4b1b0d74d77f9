//! Writes and reads the works. Long values that several environments contain are stored once: the
//! instances of a matrix have all parameters in common.

use std::collections::BTreeMap;
use std::sync::Arc;

use kahn_model::{TaskIx, Text, Work};

use crate::convert::{ConvertError, work};
use crate::storage as wire;

/// Shorter values take about as much as a reference to them.
const BYTES_MIN: usize = 256;

/// Returns the works, and the values that they share.
pub(super) fn to_wire(works: &[Arc<Work>]) -> (Vec<wire::Work>, Vec<String>) {
    let mut positions: BTreeMap<&Text, u32> = BTreeMap::new();
    let mut shared = Vec::new();
    for text in repeated(works) {
        shared.push(text.as_str().to_owned());
        positions.insert(text, TaskIx::from_index(shared.len()).0);
    }
    let convert = |work: &Arc<Work>| {
        // Shared values are taken out before the work is converted, which copies all values.
        let mut rest = Work::clone(work);
        let mut taken = Vec::with_capacity(work.env.len());
        for (_, value) in &mut rest.env {
            let position = positions.get(value).copied().unwrap_or(0);
            if 0 < position {
                *value = Text::default();
            }
            taken.push(position);
        }
        let mut message = work::to_wire(&rest);
        for (variable, position) in message.env.iter_mut().zip(taken) {
            variable.shared_value = position;
        }
        message
    };
    (works.iter().map(convert).collect(), shared)
}

/// Returns the long values that occur more than once, in the order of their first use.
fn repeated(works: &[Arc<Work>]) -> Vec<&Text> {
    let values = works.iter().flat_map(|work| &work.env).map(|(_, value)| value);
    let long: Vec<&Text> = values.filter(|value| BYTES_MIN <= value.as_str().len()).collect();
    let mut uses: BTreeMap<&Text, usize> = BTreeMap::new();
    long.iter().for_each(|value| *uses.entry(value).or_default() += 1);
    let mut is_first = |value: &&Text| uses.remove(*value).is_some_and(|n_uses| 1 < n_uses);
    long.into_iter().filter(|value| is_first(value)).collect()
}

/// Decodes the works.
pub(super) fn from_wire(
    works: Vec<wire::Work>,
    shared: Vec<String>,
) -> Result<Vec<Work>, ConvertError> {
    let shared: Vec<Text> = shared.into_iter().map(Text::new).collect();
    works.into_iter().map(|work| one_from_wire(work, &shared)).collect()
}

fn one_from_wire(message: wire::Work, shared: &[Text]) -> Result<Work, ConvertError> {
    let positions: Vec<u32> = message.env.iter().map(|variable| variable.shared_value).collect();
    let mut work = work::from_wire(message)?;
    for ((_, value), position) in work.env.iter_mut().zip(positions) {
        let Some(at) = TaskIx(position).index().checked_sub(1) else { continue };
        let out_of_range =
            || ConvertError::out_of_range("env.shared_value", position, shared.len());
        *value = shared.get(at).ok_or_else(out_of_range)?.clone();
    }
    Ok(work)
}
