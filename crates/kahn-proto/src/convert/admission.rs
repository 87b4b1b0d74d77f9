//! The accepted share of a worker's capacity.

use std::time::Duration;

use kahn_model::{Admission, Pressure, PressureKind, Share};

use super::ConvertError;
use crate::worker as wire;

/// Encodes an admission.
#[must_use]
pub fn to_wire(admission: &Admission) -> wire::Admission {
    wire::Admission {
        share_permille: admission.share.permille(),
        pressure: admission.pressure.map(|pressure| wire::Pressure {
            kind: kind_to_wire(pressure.kind).into(),
            measured_permille: pressure.measured,
            limit_permille: pressure.limit,
        }),
        age_micros: u64::try_from(admission.age.as_micros()).unwrap_or(u64::MAX),
    }
}

/// Decodes an admission.
///
/// # Errors
///
/// Returns an error if the share is not within 1 to 1000 or the kind of pressure is unknown.
pub fn from_wire(admission: wire::Admission) -> Result<Admission, ConvertError> {
    let share = Share::from_permille(admission.share_permille).ok_or(ConvertError::OutOfRange {
        field: "admission.share_permille",
        found: i64::from(admission.share_permille),
        limit: i64::from(Share::ALL.permille()),
    })?;
    let pressure = admission.pressure.map(|pressure| {
        Ok::<_, ConvertError>(Pressure {
            kind: kind_from_wire(pressure.kind)?,
            measured: pressure.measured_permille,
            limit: pressure.limit_permille,
        })
    });
    Ok(Admission {
        share,
        pressure: pressure.transpose()?,
        age: Duration::from_micros(admission.age_micros),
    })
}

fn kind_to_wire(kind: PressureKind) -> wire::PressureKind {
    match kind {
        PressureKind::Memory => wire::PressureKind::Memory,
        PressureKind::AvailableMemory => wire::PressureKind::AvailableMemory,
        PressureKind::Cpu => wire::PressureKind::Cpu,
        PressureKind::Io => wire::PressureKind::Io,
    }
}

fn kind_from_wire(kind: i32) -> Result<PressureKind, ConvertError> {
    match wire::PressureKind::try_from(kind) {
        Ok(wire::PressureKind::Memory) => Ok(PressureKind::Memory),
        Ok(wire::PressureKind::AvailableMemory) => Ok(PressureKind::AvailableMemory),
        Ok(wire::PressureKind::Cpu) => Ok(PressureKind::Cpu),
        Ok(wire::PressureKind::Io) => Ok(PressureKind::Io),
        Ok(wire::PressureKind::Unspecified) | Err(_) => {
            Err(ConvertError::UnknownValue { field: "admission.pressure.kind", found: kind })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admission_comes_back_as_it_was() {
        for kind in PressureKind::ALL {
            let admission = Admission {
                share: Share::from_permille(600).unwrap(),
                pressure: Some(Pressure { kind, measured: 230, limit: 100 }),
                age: Duration::from_millis(1500),
            };
            assert_eq!(from_wire(to_wire(&admission)), Ok(admission));
        }
        assert_eq!(from_wire(to_wire(&Admission::default())), Ok(Admission::default()));
    }

    #[test]
    fn a_share_of_nothing_and_an_unknown_kind_are_refused() {
        assert!(from_wire(wire::Admission::default()).is_err());
        let pressure = Some(wire::Pressure { kind: 9, ..<_>::default() });
        let admission = wire::Admission { share_permille: 500, pressure, age_micros: 0 };
        assert!(from_wire(admission).is_err());
    }
}
