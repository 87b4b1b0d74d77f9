//! The work of a task.

mod container;
mod http;
mod pod;
mod secret;

use std::time::Duration;

use kahn_model::{Action, FunctionCall, PythonCall, Shell, Text, Work};
use wire::work::Action as WireAction;

use super::{ConvertError, span};
use crate::storage as wire;

/// Encodes work.
#[must_use]
pub fn to_wire(work: &Work) -> wire::Work {
    let env = |(name, value): &(Box<str>, Text)| wire::EnvVar {
        name: name.to_string(),
        value: value.as_str().to_owned(),
        shared_value: 0,
    };
    wire::Work {
        action: Some(action_to_wire(&work.action)),
        env: work.env.iter().map(env).collect(),
        working_dir: work.working_dir.as_ref().map(|dir| dir.as_str().to_owned()),
        secrets: work.secrets.iter().map(secret::to_wire).collect(),
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
            WireAction::Exec(wire::ExecAction { argv: argv.iter().map(owned).collect() })
        }
        Action::Function(call) => WireAction::Function(wire::FunctionAction {
            name: call.name.to_string(),
            input: owned(&call.input),
        }),
        Action::Python(call) => WireAction::Python(wire::PythonAction {
            function: call.function.to_string(),
            input: owned(&call.input),
            interpreter: call.interpreter.as_ref().map(owned),
        }),
        Action::Container(container) => WireAction::Container(container::to_wire(container)),
        Action::Pod(pod) => WireAction::Pod(pod::to_wire(pod)),
        Action::Http(request) => WireAction::Http(http::to_wire(request)),
        Action::Sleep { duration } => {
            WireAction::Sleep(wire::SleepAction { duration_nanos: span::to_wire(*duration) })
        }
        Action::Noop => WireAction::Noop(wire::NoopAction {}),
    }
}

fn owned(text: &Text) -> String {
    text.as_str().to_owned()
}

/// Decodes work.
///
/// # Errors
///
/// Returns an error if the action is missing or unknown, or a secret has no name or target.
pub fn from_wire(work: wire::Work) -> Result<Work, ConvertError> {
    let action = work.action.ok_or(ConvertError::Missing { field: "work.action" })?;
    let env = |var: wire::EnvVar| (var.name.into_boxed_str(), Text::new(var.value));
    Ok(Work {
        action: action_from_wire(action)?,
        env: work.env.into_iter().map(env).collect(),
        working_dir: work.working_dir.map(Text::new),
        secrets: work.secrets.into_iter().map(secret::from_wire).collect::<Result<_, _>>()?,
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
        WireAction::Function(call) => Action::Function(Box::new(FunctionCall {
            name: call.name.into_boxed_str(),
            input: Text::new(call.input),
        })),
        WireAction::Python(call) => Action::Python(Box::new(PythonCall {
            function: call.function.into_boxed_str(),
            input: Text::new(call.input),
            interpreter: call.interpreter.map(Text::new),
        })),
        WireAction::Container(found) => Action::Container(Box::new(container::from_wire(found)?)),
        WireAction::Pod(found) => Action::Pod(Box::new(pod::from_wire(found)?)),
        WireAction::Http(request) => Action::Http(Box::new(http::from_wire(request)?)),
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
