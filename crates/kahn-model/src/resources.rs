//! Resource vectors: what a task requests and what a worker has.

use std::collections::BTreeMap;
use std::fmt;

use crate::name::Name;

/// One dimension of the resource vector.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// Processors, in thousandths.
    Cpu,
    /// Memory, in bytes.
    Memory,
    /// Graphics processors, in thousandths.
    Gpu,
    /// Disk rate, in bytes per second.
    Disk,
    /// Network rate, in bytes per second.
    Network,
    /// A countable resource defined by the operator, in thousandths.
    Named(Name),
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Memory => f.write_str("memory"),
            Self::Gpu => f.write_str("gpu"),
            Self::Disk => f.write_str("disk"),
            Self::Network => f.write_str("network"),
            Self::Named(name) => name.fmt(f),
        }
    }
}

const FIXED: [Resource; 5] =
    [Resource::Cpu, Resource::Memory, Resource::Gpu, Resource::Disk, Resource::Network];

/// An amount of every resource; unset ones are zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resources {
    fixed: [u64; 5],
    named: BTreeMap<Name, u64>,
}

impl Resources {
    /// Returns a vector of zeros.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Returns a vector with only processors, in thousandths.
    #[must_use]
    pub fn cpu_milli(milli: u64) -> Self {
        Self::none().with(&Resource::Cpu, milli)
    }

    /// Returns the vector with the given amount of `resource`.
    #[must_use]
    pub fn with(mut self, resource: &Resource, amount: u64) -> Self {
        self.set(resource, amount);
        self
    }

    /// Sets the amount of `resource`, in its unit.
    pub fn set(&mut self, resource: &Resource, amount: u64) {
        match fixed_index(resource) {
            Some(index) => self.fixed[index] = amount,
            None => self.set_named(resource, amount),
        }
    }

    fn set_named(&mut self, resource: &Resource, amount: u64) {
        let Resource::Named(name) = resource else { return };
        if amount == 0 {
            self.named.remove(name);
        } else {
            self.named.insert(name.clone(), amount);
        }
    }

    /// Returns the amount of `resource`, in its unit.
    #[must_use]
    pub fn get(&self, resource: &Resource) -> u64 {
        match (fixed_index(resource), resource) {
            (Some(index), _) => self.fixed[index],
            (None, Resource::Named(name)) => self.named.get(name).copied().unwrap_or(0),
            (None, _) => 0,
        }
    }

    /// Returns whether all amounts are zero.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.fixed == [0; 5] && self.named.is_empty()
    }

    /// Returns whether no amount exceeds that of `room`.
    #[must_use]
    pub fn fits(&self, room: &Self) -> bool {
        self.fixed.iter().zip(&room.fixed).all(|(want, have)| want <= have)
            && self
                .named
                .iter()
                .all(|(name, want)| *want <= room.named.get(name).copied().unwrap_or(0))
    }

    /// Returns the first resource of which `room` has too little: `(resource, wanted, found)`.
    #[must_use]
    pub fn shortage(&self, room: &Self) -> Option<(Resource, u64, u64)> {
        self.iter().find_map(|(resource, want)| {
            let have = room.get(&resource);
            (have < want).then_some((resource, want, have))
        })
    }

    /// Adds `other`. Saturates.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.fixed.iter_mut().zip(&other.fixed) {
            *mine = mine.saturating_add(*theirs);
        }
        for (name, amount) in &other.named {
            let mine = self.named.entry(name.clone()).or_default();
            *mine = mine.saturating_add(*amount);
        }
    }

    /// Subtracts `other`. Saturates at zero.
    pub fn subtract(&mut self, other: &Self) {
        for (mine, theirs) in self.fixed.iter_mut().zip(&other.fixed) {
            *mine = mine.saturating_sub(*theirs);
        }
        for (name, amount) in &other.named {
            if let Some(mine) = self.named.get_mut(name) {
                *mine = mine.saturating_sub(*amount);
                if *mine == 0 {
                    self.named.remove(name);
                }
            }
        }
    }

    /// Returns the element-wise maximum.
    #[must_use]
    pub fn max(&self, other: &Self) -> Self {
        let mut out = self.clone();
        for (resource, amount) in other.iter() {
            let larger = out.get(&resource).max(amount);
            out.set(&resource, larger);
        }
        out
    }

    /// Returns the element-wise minimum.
    #[must_use]
    pub fn min(&self, other: &Self) -> Self {
        let mut out = self.clone();
        for (resource, amount) in self.iter() {
            out.set(&resource, other.get(&resource).min(amount));
        }
        out
    }

    /// Iterates over the non-zero amounts in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (Resource, u64)> + '_ {
        let fixed = FIXED.iter().cloned().zip(self.fixed.iter().copied());
        let named = self.named.iter().map(|(n, a)| (Resource::Named(n.clone()), *a));
        fixed.chain(named).filter(|(_, amount)| *amount > 0)
    }

    /// Returns the dominant share: the largest fraction of `whole` used in any dimension, in
    /// millionths (Ghodsi et al., "Dominant Resource Fairness", NSDI 2011).
    #[must_use]
    pub fn dominant_share(&self, whole: &Self) -> u64 {
        self.iter()
            .map(|(resource, amount)| {
                let total = u128::from(whole.get(&resource).max(1));
                u64::try_from(u128::from(amount) * 1_000_000 / total).unwrap_or(u64::MAX)
            })
            .max()
            .unwrap_or(0)
    }
}

fn fixed_index(resource: &Resource) -> Option<usize> {
    match resource {
        Resource::Cpu => Some(0),
        Resource::Memory => Some(1),
        Resource::Gpu => Some(2),
        Resource::Disk => Some(3),
        Resource::Network => Some(4),
        Resource::Named(_) => None,
    }
}

impl Resources {
    /// Formats the amounts for people: `memory=24684084Ki` becomes `memory=23.5Gi`. The result is
    /// not exact; programs should read the [`Display`](fmt::Display) form.
    #[must_use]
    pub fn rounded(&self) -> Rounded<'_> {
        Rounded(self)
    }
}

impl fmt::Display for Resources {
    /// Formats like `cpu=1.5 memory=512Mi`, the notation of the DAG file and the flags.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (resource, amount) in self.iter() {
            write!(f, "{separator}{resource}={}", Amount { resource: &resource, amount })?;
            separator = " ";
        }
        Ok(())
    }
}

/// Amounts for people, from [`Resources::rounded`].
#[derive(Clone, Copy, Debug)]
pub struct Rounded<'a>(&'a Resources);

impl fmt::Display for Rounded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (resource, amount) in self.0.iter() {
            write!(f, "{separator}{resource}=")?;
            separator = " ";
            match resource {
                Resource::Memory | Resource::Disk | Resource::Network => rounded(amount, f)?,
                _ => Amount { resource: &resource, amount }.fmt(f)?,
            }
        }
        Ok(())
    }
}

struct Amount<'a> {
    resource: &'a Resource,
    amount: u64,
}

impl fmt::Display for Amount<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.resource {
            Resource::Memory | Resource::Disk | Resource::Network => bytes(self.amount, f),
            Resource::Cpu | Resource::Gpu | Resource::Named(_) => milli(self.amount, f),
        }
    }
}

fn milli(amount: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match amount % 1000 {
        0 => write!(f, "{}", amount / 1000),
        rest => {
            let digits = format!("{rest:03}");
            write!(f, "{}.{}", amount / 1000, digits.trim_end_matches('0'))
        }
    }
}

fn bytes(amount: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (unit, size) in [("Gi", 1u64 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)] {
        if amount >= size && amount.is_multiple_of(size) {
            return write!(f, "{}{unit}", amount / size);
        }
    }
    write!(f, "{amount}")
}

/// Formats a size with one decimal of its largest unit, rounded down; exact below a mebibyte.
fn rounded(amount: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (unit, name) = match amount {
        0..0x10_0000 => return bytes(amount, f),
        0x10_0000..0x4000_0000 => (1 << 20, "Mi"),
        _ => (1 << 30, "Gi"),
    };
    let tenths = u128::from(amount) * 10 / unit;
    match tenths % 10 {
        0 => write!(f, "{}{name}", tenths / 10),
        rest => write!(f, "{}.{rest}{name}", tenths / 10),
    }
}

/// The error for an invalid amount of a resource.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidResources {
    /// Not a number with a known unit.
    #[error("`{text}` is not an amount of {resource}; write for example `{example}`")]
    Amount {
        /// The resource.
        resource: String,
        /// The input.
        text: String,
        /// A valid example.
        example: &'static str,
    },
    /// The name of the resource is invalid.
    #[error("resource {0}")]
    Name(#[from] crate::name::InvalidName),
    /// An item of a list is not `name=amount`.
    #[error("`{0}` is not `name=amount`, such as `cpu=2` or `memory=4Gi`")]
    Pair(String),
}

impl Resource {
    /// Parses the name of a resource: one of the five built-in ones, or else a named one.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidResources::Name`] if `name` is not a valid [`Name`].
    pub fn parse(name: &str) -> Result<Self, InvalidResources> {
        match FIXED.iter().find(|r| r.to_string() == name) {
            Some(known) => Ok(known.clone()),
            None => Ok(Self::Named(Name::new(name)?)),
        }
    }

    /// Parses an amount of this resource: `1.5` or `500m` for counts; `512Mi`, `1G` or plain bytes
    /// for sizes and rates. The suffixes are those of Kubernetes quantities.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidResources::Amount`] if `text` is not such an amount or is too large.
    pub fn parse_amount(&self, text: &str) -> Result<u64, InvalidResources> {
        let (parsed, example) = match self {
            Self::Memory | Self::Disk | Self::Network => (parse_bytes(text), "512Mi"),
            Self::Cpu | Self::Gpu | Self::Named(_) => (parse_milli(text), "1.5"),
        };
        parsed.ok_or_else(|| InvalidResources::Amount {
            resource: self.to_string(),
            text: text.into(),
            example,
        })
    }
}

impl std::str::FromStr for Resources {
    type Err = InvalidResources;

    /// Parses `cpu=2,memory=4Gi`; items are separated by commas or spaces.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut out = Self::none();
        for item in text.split([',', ' ']).filter(|item| !item.is_empty()) {
            let (name, amount) =
                item.split_once('=').ok_or_else(|| InvalidResources::Pair(item.into()))?;
            let resource = Resource::parse(name)?;
            out.set(&resource, resource.parse_amount(amount)?);
        }
        Ok(out)
    }
}

fn parse_milli(text: &str) -> Option<u64> {
    if let Some(milli) = text.strip_suffix('m') {
        return milli.parse().ok();
    }
    decimal(text, 1000)
}

fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match &text[digits.len()..] {
        "" => 1,
        "k" | "K" => 1000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return None,
    };
    decimal(digits, unit)
}

/// Computes `digits[.digits]` times `unit` exactly, and truncates fractions of the unit.
fn decimal(text: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let all_digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let scale = 10u64.pow(u32::try_from(fraction.len()).ok()?);
    let part = u128::from(fraction.parse::<u64>().ok()?) * u128::from(unit) / u128::from(scale);
    whole.parse::<u64>().ok()?.checked_mul(unit)?.checked_add(u64::try_from(part).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_for_people() {
        for (exact, rounded) in [
            ("cpu=2.5 memory=24684084Ki", "cpu=2.5 memory=23.5Gi"),
            ("memory=1536Ki disk=300Mi", "memory=1.5Mi disk=300Mi"),
            ("memory=900Gi gpu=1", "memory=900Gi gpu=1"),
            ("memory=10Ki", "memory=10Ki"),
        ] {
            let resources: Resources = exact.parse().unwrap();
            assert_eq!(resources.rounded().to_string(), rounded);
        }
    }

    #[test]
    fn amounts_read_back_what_they_print() {
        for text in ["cpu=1.5 memory=512Mi", "cpu=0.25", "memory=3Gi gpu=1 license=2", ""] {
            assert_eq!(text.parse::<Resources>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn wrong_amounts_are_refused_with_an_example() {
        for text in ["cpu=", "cpu=-1", "cpu=1e3", "memory=5Q", "memory=99999999999999Ti", "cpu"] {
            assert!(text.parse::<Resources>().is_err(), "{text}");
        }
    }

    #[test]
    fn shortage_names_the_missing_resource() {
        let want: Resources = "cpu=2 gpu=1".parse().unwrap();
        let have: Resources = "cpu=4".parse().unwrap();
        assert_eq!(want.shortage(&have), Some((Resource::Gpu, 1000, 0)));
        assert!(!want.fits(&have));
    }

    #[test]
    fn taking_away_what_was_added_leaves_nothing() {
        let some: Resources = "cpu=2 license=1".parse().unwrap();
        let mut all = some.clone();
        all.subtract(&some);
        assert!(all.is_none());
        assert_eq!(all, Resources::none());
    }
}
