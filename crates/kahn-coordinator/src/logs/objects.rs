//! How the output of an attempt is divided into objects of the blob store. No IO.
//!
//! The name of an object has the lease under which the bytes were printed and the offsets of its
//! first byte and its end. An attempt prints under one lease, and a worker sends the same bytes for
//! the same offsets however often it has to. So objects of one name have the same content, whichever
//! coordinator has written them and in whatever order: a coordinator that is no longer the leader
//! can do no harm with an upload that it has not finished. Objects may overlap, because another
//! coordinator divides the output at other offsets.
//!
//! The last object of a complete output is marked as its end. If a coordinator has dropped output
//! that exceeds a limit, the end has the line that says so.

use std::cmp::Reverse;
use std::ops::Range;

use kahn_model::Token;

use super::Extent;

/// An object with a part of the output of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Object {
    pub token: Token,
    /// The offset of its first byte.
    pub start: u64,
    /// The offset after its last byte.
    pub end: u64,
    /// Whether the output ends with it.
    pub is_end: bool,
}

impl Object {
    pub(super) fn name(&self) -> String {
        let Self { token: Token { epoch, serial, nonce }, start, end, is_end } = self;
        let mark = if *is_end { ".end" } else { "" };
        format!("{epoch}.{serial}.{nonce}.{start:020}-{end:020}{mark}")
    }

    /// Parses a name; returns `None` for those of other objects.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('.');
        let mut number = || parts.next()?.parse().ok();
        let token = Token { epoch: number()?, serial: number()?, nonce: number()? };
        let (start, end) = parts.next()?.split_once('-')?;
        let is_end = match (parts.next(), parts.next()) {
            (None, _) => false,
            (Some("end"), None) => true,
            _ => return None,
        };
        let object = Self { token, start: start.parse().ok()?, end: end.parse().ok()?, is_end };
        (object.start <= object.end).then_some(object)
    }
}

/// What the blob store has of the output of an attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct StoredLog {
    /// The lease under which it was started.
    pub owner: Option<Token>,
    pub extent: Extent,
    /// Which object to read, from which offset on, in the order of offsets.
    cover: Vec<(u64, Object)>,
}

impl StoredLog {
    /// Determines what a set of objects has without gaps.
    pub(super) fn of(objects: impl IntoIterator<Item = Object>) -> Self {
        let mut objects: Vec<Object> = objects.into_iter().collect();
        let Some(owner) = objects.iter().map(|object| object.token).min_by_key(order) else {
            return Self::default();
        };
        objects.retain(|object| object.token == owner);
        let (ends, mut parts): (Vec<_>, Vec<_>) =
            objects.into_iter().partition(|object| object.is_end);
        // Of several that start at one offset, the longest comes first.
        parts.sort_unstable_by_key(|part| (part.start, Reverse(part.end)));
        let mut stored = Self { owner: Some(owner), ..Self::default() };
        for part in parts {
            let at = stored.extent.len;
            if part.start <= at && at < part.end {
                stored.cover.push((at, part));
                stored.extent.len = part.end;
            }
        }
        // If several coordinators have seen the end, one may have cut the output at a limit, and
        // the others have more.
        let ends = ends.into_iter().filter(|end| end.start <= stored.extent.len);
        if let Some(end) = ends.max_by_key(|end| (end.end, Reverse(end.start))) {
            stored.cover.retain(|(from, _)| *from < end.start);
            stored.cover.push((end.start, end));
            stored.extent = Extent { len: end.end, is_sealed: true };
        }
        stored
    }

    /// Returns the object with the byte at `offset`, and the range in it from there on.
    pub(super) fn locate(&self, offset: u64) -> Option<(Object, Range<u64>)> {
        if self.extent.len <= offset {
            return None;
        }
        let after = self.cover.partition_point(|(from, _)| *from <= offset);
        let (_, object) = self.cover.get(after.checked_sub(1)?)?;
        let end = self.cover.get(after).map_or(self.extent.len, |(from, _)| *from);
        Some((*object, offset - object.start..end - object.start))
    }
}

fn order(token: &Token) -> (u64, u64, u64) {
    (token.epoch, token.serial, token.nonce)
}

#[cfg(test)]
mod tests;
