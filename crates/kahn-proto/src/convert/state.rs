//! The numbered enums of the model. In messages each value is its number plus one, so that zero,
//! the value of an absent field, is never valid.

use kahn_model::{CauseKind, DependencyKind, RunState, TaskState, Trigger, When};

use super::ConvertError;

/// Returns the element of `all` with the number `found` in messages.
///
/// # Errors
///
/// Returns an error if the number is zero or unknown.
pub fn numbered<T: Copy>(
    field: &'static str,
    all: &[T],
    found: impl Into<i32>,
) -> Result<T, ConvertError> {
    let found = found.into();
    let position = found.checked_sub(1).and_then(|position| usize::try_from(position).ok());
    let value = position.and_then(|position| all.get(position)).copied();
    value.ok_or(ConvertError::UnknownValue { field, found })
}

/// Returns the number of a kind of cause in messages.
#[must_use]
pub fn cause_number(kind: CauseKind) -> u8 {
    kind.number() + 1
}

/// Returns the kind of cause with this number in messages.
///
/// # Errors
///
/// Returns an error if the number is zero or unknown.
pub fn cause(field: &'static str, found: impl Into<i32>) -> Result<CauseKind, ConvertError> {
    numbered(field, &CauseKind::ALL, found)
}

/// Returns the number of a task's state in messages.
#[must_use]
pub fn task_state_number(state: TaskState) -> u8 {
    state.number() + 1
}

/// Returns the state of a task with this number in messages.
///
/// # Errors
///
/// Returns an error if the number is zero or unknown.
pub fn task_state(field: &'static str, found: impl Into<i32>) -> Result<TaskState, ConvertError> {
    numbered(field, &TaskState::ALL, found)
}

/// Returns the number of a run's state in messages.
#[must_use]
pub fn run_state_number(state: RunState) -> u8 {
    state.number() + 1
}

/// Returns the state of a run with this number in messages.
///
/// # Errors
///
/// Returns an error if the number is zero or unknown.
pub fn run_state(field: &'static str, found: impl Into<i32>) -> Result<RunState, ConvertError> {
    numbered(field, &RunState::ALL, found)
}

pub(crate) fn trigger_number(trigger: Trigger) -> u8 {
    trigger as u8 + 1
}

/// Encodes `When` in the lower and `DependencyKind` in the upper half of a byte.
pub(crate) fn dependency_number(when: When, kind: DependencyKind) -> u8 {
    (when as u8 + 1) | ((kind as u8 + 1) << 4)
}

pub(crate) fn dependency(
    field: &'static str,
    found: u8,
) -> Result<(When, DependencyKind), ConvertError> {
    let when = numbered(field, &When::ALL, found & 0x0f)?;
    let kind = numbered(field, &DependencyKind::ALL, found >> 4)?;
    Ok((when, kind))
}

#[cfg(test)]
mod tests {
    use kahn_model::{CauseKind, DependencyKind, RunState, TaskState, Trigger, When};

    use super::numbered;
    use crate::convert::ConvertError;
    use crate::storage as wire;

    /// Checks the names in the `.proto` files, in order, without the common prefix of each enum.
    fn check<T: std::fmt::Debug>(all: &[T], name_of: impl Fn(i32) -> Option<&'static str>) {
        let plain = |text: &str| text.replace('_', "").to_ascii_lowercase();
        for (number, value) in (1..).zip(all) {
            let name = plain(name_of(number).unwrap());
            assert!(name.ends_with(&plain(&format!("{value:?}"))), "{name} is not {value:?}");
        }
        assert!(name_of(0).unwrap().ends_with("_UNSPECIFIED"));
        assert_eq!(name_of(i32::try_from(all.len()).unwrap() + 1), None);
    }

    #[test]
    fn the_proto_files_number_everything_as_the_model_does() {
        check(&CauseKind::ALL, |n| Some(wire::CauseKind::try_from(n).ok()?.as_str_name()));
        check(&TaskState::ALL, |n| Some(wire::TaskState::try_from(n).ok()?.as_str_name()));
        check(&RunState::ALL, |n| Some(wire::RunState::try_from(n).ok()?.as_str_name()));
        check(&Trigger::ALL, |n| Some(wire::Trigger::try_from(n).ok()?.as_str_name()));
        check(&When::ALL, |n| Some(wire::When::try_from(n).ok()?.as_str_name()));
        check(&DependencyKind::ALL, |n| {
            Some(wire::DependencyKind::try_from(n).ok()?.as_str_name())
        });
    }

    #[test]
    fn unspecified_and_unknown_numbers_are_refused() {
        for found in [0, -1, i32::MIN, i32::MAX, 6] {
            let refused = numbered("when", &When::ALL, found);
            assert_eq!(refused, Err(ConvertError::UnknownValue { field: "when", found }));
        }
    }
}
