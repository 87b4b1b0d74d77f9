//! Source locations of values.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

/// The name by which [`Spanned`] requests a span from the deserializer of this crate.
pub(crate) const SPANNED: &str = "$kahn::spanned";

/// A byte range of the source, or [`Span::NONE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// An unknown location.
    pub(crate) const NONE: Self = Self { start: u32::MAX, end: u32::MAX };

    /// Creates a span; [`Span::NONE`] for offsets beyond 4 GiB.
    pub(crate) fn new(start: usize, end: usize) -> Self {
        match (u32::try_from(start), u32::try_from(end)) {
            (Ok(start), Ok(end)) if start <= end => Self { start, end },
            _ => Self::NONE,
        }
    }

    /// Returns the byte range, if known.
    pub(crate) fn range(self) -> Option<Range<usize>> {
        if self == Self::NONE {
            return None;
        }
        Some(usize::try_from(self.start).ok()?..usize::try_from(self.end).ok()?)
    }

    /// Returns this span, or `other` if this one is unknown.
    pub(crate) fn or(self, other: Self) -> Self {
        if self == Self::NONE { other } else { self }
    }
}

impl Default for Span {
    fn default() -> Self {
        Self::NONE
    }
}

/// A value with its span.
///
/// The span is [`Span::NONE`] if another deserializer than that of this crate is used.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Spanned<T> {
    pub(crate) value: T,
    pub(crate) span: Span,
}

impl<T> Spanned<T> {
    pub(crate) fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

impl<T> std::ops::Deref for Spanned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

struct SpannedVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for SpannedVisitor<T> {
    type Value = Spanned<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        T::deserialize(d).map(|value| Spanned::new(value, Span::NONE))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Self::Value, A::Error> {
        let missing = || A::Error::custom("a span has three parts");
        let start = parts.next_element()?.ok_or_else(missing)?;
        let end = parts.next_element()?.ok_or_else(missing)?;
        let value = parts.next_element()?.ok_or_else(missing)?;
        Ok(Spanned::new(value, Span { start, end }))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Spanned<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_newtype_struct(SPANNED, SpannedVisitor(PhantomData))
    }
}

impl<T: schemars::JsonSchema> schemars::JsonSchema for Spanned<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        T::json_schema(generator)
    }
}

impl Span {
    /// Returns start and end in the form used by the deserializer of this crate.
    pub(crate) fn ends(self) -> [u32; 2] {
        [self.start, self.end]
    }
}
