//! The share of its capacity that a worker offers, and the pressure that reduces it.

use std::fmt;
use std::time::Duration;

use crate::resources::{Resource, Resources};

/// A share of a worker's capacity in thousandths: more than 0 and at most 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u16);

impl Share {
    /// The whole capacity.
    pub const ALL: Self = Self(1000);

    /// Creates a share; `None` for 0 and for more than 1000.
    #[must_use]
    pub fn from_permille(permille: u32) -> Option<Self> {
        u16::try_from(permille).ok().filter(|n| (1..=1000).contains(n)).map(Self)
    }

    /// Returns the share in thousandths, from 1 to 1000.
    #[must_use]
    pub fn permille(self) -> u32 {
        u32::from(self.0)
    }

    /// Returns whether this is the whole capacity.
    #[must_use]
    pub fn is_all(self) -> bool {
        self == Self::ALL
    }

    /// Returns this share of the processors, memory, disk rate and network rate of `whole`.
    /// Graphics processors and named resources are independent of pressure and unchanged.
    #[must_use]
    pub fn of(self, whole: &Resources) -> Resources {
        let mut out = whole.clone();
        if self.is_all() {
            return out;
        }
        for resource in [Resource::Cpu, Resource::Memory, Resource::Disk, Resource::Network] {
            let part = u128::from(whole.get(&resource)) * u128::from(self.0) / 1000;
            out.set(&resource, u64::try_from(part).unwrap_or(u64::MAX));
        }
        out
    }

    /// Returns what remains of `capacity` after subtracting `used`. If nothing is used, the whole
    /// capacity is available regardless of the share, so that no task waits forever.
    #[must_use]
    pub fn room(self, capacity: &Resources, used: &Resources) -> Resources {
        let mut room = if used.is_none() { capacity.clone() } else { self.of(capacity) };
        room.subtract(used);
        room
    }
}

impl Default for Share {
    fn default() -> Self {
        Self::ALL
    }
}

impl fmt::Display for Share {
    /// Formats as a percentage: `60%`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        percent(self.permille(), f)
    }
}

/// The kinds of resource pressure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PressureKind {
    /// The share of time in which some tasks wait for memory.
    Memory,
    /// The share of memory that is still available, which is low.
    AvailableMemory,
    /// The number of runnable threads per processor.
    Cpu,
    /// The share of time in which all tasks wait for disks.
    Io,
}

impl PressureKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Memory, Self::AvailableMemory, Self::Cpu, Self::Io];

    /// Returns the name used in JSON and on the wire. Stable.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::AvailableMemory => "available_memory",
            Self::Cpu => "cpu",
            Self::Io => "io",
        }
    }

    /// Returns whether a larger value is better.
    #[must_use]
    pub fn is_floor(self) -> bool {
        self == Self::AvailableMemory
    }
}

/// A measured pressure beyond its limit. Both values are in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pressure {
    /// The kind.
    pub kind: PressureKind,
    /// The measured value.
    pub measured: u32,
    /// The limit.
    pub limit: u32,
}

impl fmt::Display for Pressure {
    /// Formats like `memory pressure 23% > 10%`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            PressureKind::Memory => "memory pressure ",
            PressureKind::AvailableMemory => "memory available ",
            PressureKind::Cpu => "cpu demand ",
            PressureKind::Io => "io pressure ",
        })?;
        percent(self.measured, f)?;
        f.write_str(if self.kind.is_floor() { " < " } else { " > " })?;
        percent(self.limit, f)
    }
}

fn percent(permille: u32, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match permille % 10 {
        0 => write!(f, "{}%", permille / 10),
        tenths => write!(f, "{}.{tenths}%", permille / 10),
    }
}

/// The admission state reported by a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// The share of its capacity that attempts may use.
    pub share: Share,
    /// The pressure that reduced the share; none if the share is the whole capacity.
    pub pressure: Option<Pressure>,
    /// How long the share had been reduced at the time of the report.
    pub age: Duration,
}

impl fmt::Display for Admission {
    /// Formats like `60% (memory pressure 23% > 10%)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.share.fmt(f)?;
        match self.pressure {
            Some(pressure) => write!(f, " ({pressure})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(permille: u32) -> Share {
        Share::from_permille(permille).unwrap()
    }

    #[test]
    fn a_share_is_more_than_nothing_and_at_most_all() {
        assert_eq!(Share::from_permille(0), None);
        assert_eq!(Share::from_permille(1001), None);
        assert_eq!(Share::from_permille(1000), Some(Share::ALL));
    }

    #[test]
    fn a_share_leaves_alone_what_pressure_is_not_about() {
        let whole: Resources = "cpu=2 memory=1Gi gpu=1 licence=3".parse().unwrap();
        let part: Resources = "cpu=1 memory=512Mi gpu=1 licence=3".parse().unwrap();
        assert_eq!(share(500).of(&whole), part);
        assert_eq!(Share::ALL.of(&whole), whole);
    }

    #[test]
    fn who_uses_nothing_has_room_for_anything_that_fits_the_whole() {
        let whole = Resources::cpu_milli(4000);
        assert_eq!(share(1).room(&whole, &Resources::none()), whole);
        assert!(share(1).room(&whole, &Resources::cpu_milli(10)).is_none());
        let room = share(500).room(&whole, &Resources::cpu_milli(500));
        assert_eq!(room, Resources::cpu_milli(1500));
    }

    #[test]
    fn an_admission_reads_as_a_sentence() {
        let pressure = Pressure { kind: PressureKind::Memory, measured: 234, limit: 100 };
        let admission = Admission { share: share(600), pressure: Some(pressure), ..<_>::default() };
        assert_eq!(admission.to_string(), "60% (memory pressure 23.4% > 10%)");
        let low = Pressure { kind: PressureKind::AvailableMemory, measured: 31, limit: 50 };
        assert_eq!(low.to_string(), "memory available 3.1% < 5%");
        assert_eq!(Admission::default().to_string(), "100%");
    }
}
