//! Process and process group ids, as formatted by the kernel.

use std::io;

use rustix::process::{Pid, Signal};

/// Parses the id of a process, a process group or a session.
///
/// Returns `None` for anything but a positive number: the kernel writes 0 for a process outside
/// the reader's namespace, and -1 for the group and the session of a process that is being reaped.
pub fn parse_pid(text: &str) -> Option<Pid> {
    let number: i32 = text.parse().ok()?;
    #[expect(clippy::disallowed_methods, reason = "the one place that checks ids")]
    (number > 0).then(|| Pid::from_raw(number)).flatten()
}

/// A process group that may be signalled.
///
/// `kill(2)` takes 0 for the caller's own group, -1 for every process on the host, and 1 would be
/// the group of init. None of these can be a `ProcessGroup`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessGroup(Pid);

impl ProcessGroup {
    /// The group led by `leader`. Returns `None` for init.
    #[must_use]
    pub fn led_by(leader: Pid) -> Option<Self> {
        (leader != Pid::INIT).then_some(Self(leader))
    }

    /// Sends a signal to all processes of the group.
    ///
    /// # Errors
    ///
    /// Returns the OS error, such as that no process of the group is left.
    pub fn signal(self, signal: Signal) -> io::Result<()> {
        #[expect(clippy::disallowed_methods, reason = "the group was checked")]
        Ok(rustix::process::kill_process_group(self.0, signal)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_positive_numbers_are_ids() {
        for text in ["0", "-1", "-7", "", "x", "1x", "2147483648", "99999999999999999999"] {
            assert_eq!(parse_pid(text), None, "{text}");
        }
        assert_eq!(parse_pid("7").map(Pid::as_raw_pid), Some(7));
    }

    #[test]
    fn the_group_of_init_cannot_be_signalled() {
        assert_eq!(ProcessGroup::led_by(Pid::INIT), None);
    }

    proptest! {
        #[test]
        fn an_id_is_positive_whatever_the_text(text in ".{0,12}", number in any::<i64>()) {
            for text in [text, number.to_string()] {
                prop_assert!(parse_pid(&text).is_none_or(|pid| pid.as_raw_pid() > 0));
            }
        }
    }
}
