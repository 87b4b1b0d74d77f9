//! What a task does.

use std::time::Duration;

use kahn_model::{Action, Shell, Text, Work};
use wire::work::Action as WireAction;

use super::{ConvertError, span};
use crate::storage as wire;

/// The message for work.
#[must_use]
pub fn to_wire(work: &Work) -> wire::Work {
    let env = |(name, value): &(Box<str>, Text)| wire::EnvVar {
        name: name.to_string(),
        value: value.as_str().to_owned(),
    };
    wire::Work {
        action: Some(action_to_wire(&work.action)),
        env: work.env.iter().map(env).collect(),
        working_dir: work.working_dir.as_ref().map(|dir| dir.as_str().to_owned()),
    }
}

fn action_to_wire(action: &Action) -> WireAction {
    match action {
        Action::Run { script, shell } => {
            let shell = match shell {
                Shell::Sh => wire::Shell::Sh,
                Shell::Bash => wire::Shell::Bash,
            };
            WireAction::Run(wire::RunAction { script: script.to_string(), shell: shell.into() })
        }
        Action::Exec { argv } => {
            let argv = argv.iter().map(|text| text.as_str().to_owned()).collect();
            WireAction::Exec(wire::ExecAction { argv })
        }
        Action::Sleep { duration } => {
            WireAction::Sleep(wire::SleepAction { duration_nanos: span::to_wire(*duration) })
        }
        Action::Noop => WireAction::Noop(wire::NoopAction {}),
    }
}

/// The work of a message.
///
/// # Errors
///
/// When there is no action, or one that is not known here.
pub fn from_wire(work: wire::Work) -> Result<Work, ConvertError> {
    let action = work.action.ok_or(ConvertError::Missing { field: "work.action" })?;
    let env = |var: wire::EnvVar| (var.name.into_boxed_str(), Text::new(var.value));
    Ok(Work {
        action: action_from_wire(action)?,
        env: work.env.into_iter().map(env).collect(),
        working_dir: work.working_dir.map(Text::new),
    })
}

fn action_from_wire(action: WireAction) -> Result<Action, ConvertError> {
    Ok(match action {
        WireAction::Run(run) => {
            Action::Run { shell: shell_from_wire(run.shell)?, script: run.script.into_boxed_str() }
        }
        WireAction::Exec(exec) => {
            Action::Exec { argv: exec.argv.into_iter().map(Text::new).collect() }
        }
        WireAction::Sleep(sleep) => {
            Action::Sleep { duration: Duration::from_nanos(sleep.duration_nanos) }
        }
        WireAction::Noop(wire::NoopAction {}) => Action::Noop,
    })
}

fn shell_from_wire(found: i32) -> Result<Shell, ConvertError> {
    match wire::Shell::try_from(found) {
        Ok(wire::Shell::Sh) => Ok(Shell::Sh),
        Ok(wire::Shell::Bash) => Ok(Shell::Bash),
        Ok(wire::Shell::Unspecified) | Err(_) => {
            Err(ConvertError::UnknownValue { field: "work.run.shell", found })
        }
    }
}
