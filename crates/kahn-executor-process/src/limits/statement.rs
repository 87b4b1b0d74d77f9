//! Describes how limits are enforced, for humans and for the labels of a worker.

use std::fmt;

use super::{CpuLimit, LimitMode, LimitSettings, PIDS_MAX, PIDS_MIN};
use kahn_platform::Controller;

/// The cgroup version used for a controller, or why none is used.
type Found = (Controller, Result<u8, String>);

/// How the limits of a worker's attempts are enforced, and why unused mechanisms are unavailable.
#[derive(Clone, Debug)]
pub struct LimitStatement {
    settings: LimitSettings,
    found: [Found; 3],
}

impl LimitStatement {
    /// The name of the worker label that tells how memory limits are enforced.
    pub const LABEL: &str = "limits";

    pub(super) fn new(settings: LimitSettings, found: [Found; 3]) -> Self {
        Self { settings, found }
    }

    /// Predicts the statement of a worker with these settings on this host, without side effects.
    #[must_use]
    pub fn predict(settings: LimitSettings) -> Self {
        let mut found = Controller::ALL.map(|controller| (controller, Err(String::new())));
        if settings.mode == LimitMode::Auto {
            for (slot, probed) in found.iter_mut().zip(kahn_platform::probe()) {
                *slot = probed;
            }
        }
        Self { settings, found }
    }

    /// Returns the value of the label: `cgroup-v2`, `cgroup-v1`, `rlimit` or `none`.
    #[must_use]
    pub fn label(&self) -> &'static str {
        let memory = self.found.iter().find(|(controller, _)| *controller == Controller::Memory);
        match (self.settings.mode, memory) {
            (LimitMode::Off, _) => "none",
            (LimitMode::Auto, Some((_, Ok(1)))) => "cgroup-v1",
            (LimitMode::Auto, Some((_, Ok(_)))) => "cgroup-v2",
            _ if cfg!(target_os = "linux") => "rlimit",
            _ => "none",
        }
    }

    /// Returns whether all controllers are available as control groups.
    #[must_use]
    pub fn has_all_controllers(&self) -> bool {
        self.found.iter().all(|(_, found)| found.is_ok())
    }

    fn words(&self, controller: Controller, found: &Result<u8, String>) -> String {
        let pids = self.settings.pids.unwrap_or(PIDS_MAX).max(PIDS_MIN);
        let (what, how) = match (controller, self.settings.cpu) {
            (Controller::Memory, _) => ("memory", String::new()),
            (Controller::Pids, _) => ("processes", format!(", {pids} each")),
            (Controller::Cpu, CpuLimit::Weight) => ("cpu", ", by weight".to_owned()),
            (Controller::Cpu, CpuLimit::Quota) => ("cpu", ", by quota".to_owned()),
        };
        let why = match found {
            Ok(version) => return format!("{what} by cgroup v{version}{how}"),
            Err(why) if why.is_empty() => String::new(),
            Err(why) => format!(" (no cgroup: {why})"),
        };
        let by_rlimit = cfg!(target_os = "linux");
        match controller {
            Controller::Memory if by_rlimit => format!("memory by rlimit of each process{why}"),
            // RLIMIT_NPROC counts all processes of the user, so it is set only if configured
            // explicitly.
            Controller::Pids if by_rlimit && self.settings.pids.is_some() => {
                format!("processes by rlimit, {pids} of the user, root exempt{why}")
            }
            _ => format!("{what} not held{why}"),
        }
    }
}

impl fmt::Display for LimitStatement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.settings.mode == LimitMode::Off {
            return f.write_str("off: no limits are enforced");
        }
        let words = self.found.iter().map(|(controller, found)| self.words(*controller, found));
        f.write_str(&words.collect::<Vec<_>>().join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(memory: Result<u8, String>) -> [Found; 3] {
        let denied = || Err("permission denied".to_owned());
        [(Controller::Memory, memory), (Controller::Pids, Ok(2)), (Controller::Cpu, denied())]
    }

    #[test]
    fn the_statement_says_what_holds_what_and_why_not_more() {
        let statement = LimitStatement::new(LimitSettings::default(), found(Ok(1)));
        assert_eq!(
            statement.to_string(),
            "memory by cgroup v1; processes by cgroup v2, 4096 each; \
             cpu not held (no cgroup: permission denied)"
        );
        assert_eq!((statement.label(), statement.has_all_controllers()), ("cgroup-v1", false));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn without_groups_single_processes_are_limited_and_the_statement_says_so() {
        let settings =
            LimitSettings { mode: LimitMode::Rlimit, pids: Some(500), ..LimitSettings::default() };
        let statement = LimitStatement::predict(settings);
        assert_eq!(
            statement.to_string(),
            "memory by rlimit of each process; \
             processes by rlimit, 500 of the user, root exempt; cpu not held"
        );
        assert_eq!(statement.label(), "rlimit");
        let off = LimitSettings { mode: LimitMode::Off, ..settings };
        assert_eq!(LimitStatement::predict(off).label(), "none");
    }
}
