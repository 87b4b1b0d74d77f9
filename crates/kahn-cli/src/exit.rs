//! Exit codes and error messages of commands.

use std::io::{self, Write as _};
use std::process::ExitCode;

use kahn_client::Error as ClientError;
use kahn_model::RunState;
use kahn_spec::Diagnostics;
use serde_json::json;

use crate::render::{diagnostics, text};

/// The exit code of a command; the numbers are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Success.
    Success = 0,
    /// The run failed.
    RunFailed = 1,
    /// Invalid input or usage.
    BadInput = 2,
    /// Something is unreachable, or the request was refused.
    Refused = 3,
    /// Cancelled.
    Cancelled = 4,
}

impl Exit {
    /// Returns the code for a run in this state.
    pub(crate) fn of_run(state: RunState) -> Self {
        match state {
            RunState::Failed => Self::RunFailed,
            RunState::Cancelled | RunState::Cancelling => Self::Cancelled,
            RunState::Active | RunState::Paused | RunState::Succeeded => Self::Success,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::RunFailed => "run_failed",
            Self::BadInput => "bad_input",
            Self::Refused => "refused",
            Self::Cancelled => "cancelled",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The reason that a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A message, optionally with advice.
    Said {
        /// The exit code.
        exit: Exit,
        /// The message, a lower-case fragment.
        message: String,
        /// How to solve the problem.
        advice: Option<String>,
    },
    /// A DAG file is invalid.
    DagFile(Box<Diagnostics>),
    /// The reader of the output has closed it, which is not an error.
    OutputClosed,
}

impl Failure {
    /// Creates a failure for invalid input or usage.
    pub(crate) fn bad_input(message: impl Into<String>) -> Self {
        Self::Said { exit: Exit::BadInput, message: message.into(), advice: None }
    }

    /// Creates a failure for something unreachable or a refused request.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::Said { exit: Exit::Refused, message: message.into(), advice: None }
    }

    /// Adds advice.
    pub(crate) fn advise(self, text: impl Into<String>) -> Self {
        match self {
            Self::Said { exit, message, advice: None } => {
                Self::Said { exit, message, advice: Some(text.into()) }
            }
            other => other,
        }
    }

    /// Prints the failure on stderr and returns the exit code.
    pub(crate) fn report(&self, is_json: bool) -> Exit {
        let (exit, text) = match self {
            Self::OutputClosed => return Exit::Success,
            Self::DagFile(found) => (Exit::BadInput, diagnostics::lines(found, is_json)),
            Self::Said { exit, message, advice } if is_json => {
                let error = json!({ "kind": exit.word(), "message": message, "advice": advice });
                (*exit, format!("{}\n", json!({ "error": error })))
            }
            Self::Said { exit, message, advice } => (*exit, said(message, advice.as_deref())),
        };
        // If stderr is closed, the exit code is the only report.
        drop(anstream::stderr().lock().write_all(text.as_bytes()));
        exit
    }
}

fn said(message: &str, advice: Option<&str>) -> String {
    let error = text::bold_red("error");
    let mut out = format!("{error}: {}\n", text::safe_lines(message.trim_end()));
    if let Some(advice) = advice {
        out.push_str(&format!("{}: {}\n", text::bold("advice"), text::safe_lines(advice)));
    }
    out
}

impl From<io::Error> for Failure {
    /// Only for errors of stdout; other errors are converted with a message where they occur.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::refused(format!("cannot write to stdout: {error}")),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let message = error.to_string();
        match error {
            ClientError::Refused(refusal) => {
                let exit = match refusal.reason {
                    kahn_client::Reason::BadRequest => Exit::BadInput,
                    _ => Exit::Refused,
                };
                Self::Said { exit, message, advice: refusal.advice }
            }
            ClientError::Unreachable { .. } => {
                Self::Said { exit: Exit::Refused, message, advice: Some(REACH.into()) }
            }
            ClientError::Bug { .. } => Self::Said { exit: Exit::Refused, message, advice: None },
        }
    }
}

const REACH: &str = "start one with `kahn coordinator`, or say where it is with --coordinator URL \
                     or KAHN_COORDINATOR_URL";

#[cfg(test)]
mod tests {
    use kahn_client::{Reason, Refusal};

    use super::*;

    fn exit_of(failure: &Failure) -> Exit {
        match failure {
            Failure::Said { exit, .. } => *exit,
            Failure::DagFile(_) => Exit::BadInput,
            Failure::OutputClosed => Exit::Success,
        }
    }

    #[test]
    fn codes_are_the_documented_numbers() {
        let all = [Exit::Success, Exit::RunFailed, Exit::BadInput, Exit::Refused, Exit::Cancelled];
        assert_eq!(all.map(|exit| exit as u8), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn runs_end_with_the_code_of_their_state() {
        for (state, exit) in [
            (RunState::Succeeded, Exit::Success),
            (RunState::Failed, Exit::RunFailed),
            (RunState::Cancelled, Exit::Cancelled),
        ] {
            assert_eq!(Exit::of_run(state), exit);
        }
    }

    #[test]
    fn what_the_coordinator_says_ends_with_its_code() {
        let refused = |reason| {
            let refusal = Refusal { reason, message: "no".into(), advice: None };
            exit_of(&ClientError::Refused(refusal).into())
        };
        assert_eq!(refused(Reason::BadRequest), Exit::BadInput);
        assert_eq!(refused(Reason::NotFound), Exit::Refused);
        assert_eq!(refused(Reason::Unauthenticated), Exit::Refused);
        let away = ClientError::Unreachable { message: "away".into() };
        assert_eq!(exit_of(&away.into()), Exit::Refused);
        let closed = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(closed.report(false), Exit::Success);
    }

    #[test]
    fn escapes_in_messages_do_not_reach_the_terminal() {
        let text = anstream::adapter::strip_str(&said("run `\u{1b}[2J`", Some("try"))).to_string();
        assert_eq!(text, "error: run `?[2J`\nadvice: try\n");
    }
}
