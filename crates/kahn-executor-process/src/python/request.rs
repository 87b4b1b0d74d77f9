//! Converts a call of a DAG into the request frame for an interpreter.

use std::collections::BTreeMap;
use std::path::Path;

use kahn_executor::failure::cannot_start;
use kahn_model::{Failure, PythonCall, Text};

use kahn_executor::Assignment;
use kahn_executor::secrets::GivenSecrets;

/// Prefixes of the variables that are read only at the start of a process.
const START_PREFIXES: [&str; 2] = ["PYTHON", "LD_"];

/// The properties that two calls must share to use the same interpreter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// The interpreter, or `None` for the default.
    pub(super) interpreter: Option<Box<str>>,
    /// The working directory, or `None` for the scratch directory.
    pub(super) working_dir: Option<Box<str>>,
    /// The variables that Python reads only at startup.
    pub(super) start_env: Vec<(Box<str>, Box<str>)>,
}

/// A call that can be sent to any interpreter with its key.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) key: Key,
    function: Box<str>,
    variables: BTreeMap<Box<str>, Box<str>>,
    input: Box<str>,
    /// Set only for the duration of the call, even with a start prefix: the interpreter outlives
    /// it.
    secrets: GivenSecrets,
}

impl Request {
    pub(super) fn new(call: &PythonCall, assignment: &Assignment) -> Result<Self, Failure> {
        let work = &assignment.work;
        let is_named = |part: &str| {
            part.split('.').all(|name| !name.is_empty() && !name.contains(['\0', ':']))
        };
        if !call.function.split_once(':').is_some_and(|(m, name)| is_named(m) && is_named(name)) {
            let function = &call.function;
            return Err(cannot_start(&format!("`{function}` is not of the form `module:name`")));
        }
        let of_work = work.env.iter().map(|(name, value)| (&**name, value.as_str()));
        let of_attempt = assignment.env.iter().map(|(name, value)| (&**name, &**value));
        // The last of several variables with the same name wins.
        let mut variables = BTreeMap::<Box<str>, Box<str>>::new();
        for (name, value) in of_work.chain(of_attempt) {
            check_variable(name, value)?;
            variables.insert(name.into(), value.into());
        }
        for (name, value) in assignment.secrets.variables() {
            check_variable(name, value)?;
            if !assignment.env.iter().any(|(known, _)| known == name) {
                variables.remove(name);
            }
        }
        let is_for_start = |name: &str| START_PREFIXES.iter().any(|start| name.starts_with(start));
        let start_env = variables.iter().filter(|(name, _)| is_for_start(name));
        let key = Key {
            start_env: start_env
                .map(|(name, value)| (Box::clone(name), Box::clone(value)))
                .collect(),
            interpreter: call.interpreter.as_ref().map(|text| text.as_str().into()),
            working_dir: work.working_dir.as_ref().map(|text| text.as_str().into()),
        };
        for text in [&key.interpreter, &key.working_dir].into_iter().flatten() {
            if text.is_empty() || text.contains('\0') {
                return Err(cannot_start("interpreter or working directory is empty or holds NUL"));
            }
        }
        let input = Text::as_str(&call.input);
        let input = if input.trim().is_empty() { "null" } else { input.trim() }.into();
        let secrets = assignment.secrets.clone();
        Ok(Self { key, function: Box::clone(&call.function), variables, input, secrets })
    }

    /// Builds the request frame, with `directory` as the working directory.
    pub(super) fn frame(&self, directory: &Path) -> Result<Vec<u8>, Failure> {
        let directory = directory
            .to_str()
            .ok_or_else(|| cannot_start("path of the working directory is not valid UTF-8"))?;
        let mut head = format!("{}\0{directory}", self.function);
        // The last of several variables with the same name wins.
        let variables = self.variables.iter().map(|(name, value)| (&**name, &**value));
        for (name, value) in self.secrets.variables().chain(variables) {
            head.extend(["\0", name, "=", value]);
        }
        let too_long = |_| cannot_start("call has more than 4 GiB");
        let n_head = u32::try_from(head.len()).map_err(too_long)?;
        let n_all = u32::try_from(4 + head.len() + self.input.len()).map_err(too_long)?;
        let parts =
            [&n_all.to_le_bytes(), &n_head.to_le_bytes(), head.as_bytes(), self.input.as_bytes()];
        Ok(parts.concat())
    }
}

fn check_variable(name: &str, value: &str) -> Result<(), Failure> {
    if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
        let message = format!("environment variable {name:?} has a bad name or holds NUL");
        return Err(cannot_start(&message));
    }
    Ok(())
}
