//! How much of what it has a worker lets attempts hold, and the pressure that made it less.

use std::fmt;
use std::time::Duration;

use crate::resources::{Resource, Resources};

/// A share of a worker's capacity, in thousandths: more than nothing and at most all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u16);

impl Share {
    /// All of it.
    pub const ALL: Self = Self(1000);

    /// So many thousandths; `None` for 0 and for more than 1000.
    #[must_use]
    pub fn from_permille(permille: u32) -> Option<Self> {
        u16::try_from(permille).ok().filter(|n| (1..=1000).contains(n)).map(Self)
    }

    /// In thousandths, from 1 to 1000.
    #[must_use]
    pub fn permille(self) -> u32 {
        u32::from(self.0)
    }

    /// Whether it is all.
    #[must_use]
    pub fn is_all(self) -> bool {
        self == Self::ALL
    }

    /// This share of the processors, memory, and rates of disk and network of `whole`; graphics
    /// processors and named resources are not what pressure is about, and stay as they are.
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

    /// What is left of `capacity` beside what is `used`. Who uses nothing may be given anything
    /// that fits all of it, however small the share: so nothing waits for ever.
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
    /// In percent: `60%`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        percent(self.permille(), f)
    }
}

/// What there is too little of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PressureKind {
    /// Some of what runs waits for memory: the time for which it does.
    Memory,
    /// There is little memory left: how much of all of it.
    AvailableMemory,
    /// More threads want to run than there are processors: how many for each.
    Cpu,
    /// Nothing runs because all waits for disks: the time for which that is so.
    Io,
}

impl PressureKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Memory, Self::AvailableMemory, Self::Cpu, Self::Io];

    /// The word for it in JSON and on the wire; stable.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::AvailableMemory => "available_memory",
            Self::Cpu => "cpu",
            Self::Io => "io",
        }
    }

    /// Whether the larger figure is the better one.
    #[must_use]
    pub fn is_floor(self) -> bool {
        self == Self::AvailableMemory
    }
}

/// A pressure that was measured, and the limit that it is beyond. Both in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pressure {
    /// Of what kind.
    pub kind: PressureKind,
    /// What was measured.
    pub measured: u32,
    /// What would have been borne.
    pub limit: u32,
}

impl fmt::Display for Pressure {
    /// `memory pressure 23% > 10%`.
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

/// What a worker says of how much it lets in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// How much of its capacity its attempts may hold.
    pub share: Share,
    /// What made it less than all; none when it is all.
    pub pressure: Option<Pressure>,
    /// For how long it had been less than all when this was said.
    pub age: Duration,
}

impl fmt::Display for Admission {
    /// `60% (memory pressure 23% > 10%)`.
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
