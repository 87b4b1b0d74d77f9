//! Turns an action into a program that can be started, and a start error into a failure.
//!
//! The program is looked up here and not by the system, so that a "not found" error names what was
//! searched.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use kahn_executor::failure::{cannot_start, worker_fault};
use kahn_model::{Action, Failure, Shell, Text};
use kahn_spawn::Program;
use rustix::fs::Access;
use rustix::io::Errno;

use kahn_executor::Assignment;

use crate::scratch::SCRATCH_VARIABLE;

/// The number of bytes that the kernel reads to find a script's interpreter.
const INTERPRETER_BYTES_MAX: u64 = 256;

const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The variable that names the outputs file of an attempt.
pub(super) const OUTPUT_VARIABLE: &str = "KAHN_OUTPUT";

/// The program, its arguments, environment and working directory. Not `Debug`, because it may
/// contain secrets.
pub(super) struct Plan<'a> {
    argv: Vec<&'a OsStr>,
    env: BTreeMap<&'a OsStr, &'a OsStr>,
    dir: PathBuf,
}

impl<'a> Plan<'a> {
    /// Plans an attempt with `scratch_dir`. Later sources of variables override earlier ones: the
    /// worker, the work, its secrets, and the variables that identify the attempt.
    pub(super) fn new(
        assignment: &'a Assignment,
        inherited: &'a [(OsString, OsString)],
        scratch_dir: &'a Path,
        output_file: &'a Path,
    ) -> Result<Self, Failure> {
        let work = &assignment.work;
        let argv = argv(&work.action)?;
        let of_worker = inherited.iter().map(|(name, value)| (&**name, &**value));
        let texts = assignment.variables();
        let mut env: BTreeMap<&OsStr, &OsStr> =
            of_worker.chain(texts.map(|(name, value)| (name.as_ref(), value.as_ref()))).collect();
        env.insert(SCRATCH_VARIABLE.as_ref(), scratch_dir.as_os_str());
        env.insert(OUTPUT_VARIABLE.as_ref(), output_file.as_os_str());
        let dir = match &work.working_dir {
            // Relative paths are resolved against the scratch directory, the only directory that
            // every worker has.
            Some(dir) => scratch_dir.join(dir.as_str()),
            None => scratch_dir.to_owned(),
        };
        let plan = Self { argv, env, dir };
        plan.check()?;
        Ok(plan)
    }

    fn check(&self) -> Result<(), Failure> {
        for (position, argument) in self.argv.iter().enumerate() {
            if has_nul(argument) {
                return Err(cannot_start(&format!("argument {position} holds a NUL character")));
            }
        }
        for (name, value) in &self.env {
            let name_bytes = name.as_encoded_bytes();
            if name.is_empty() || name_bytes.contains(&b'=') || has_nul(name) || has_nul(value) {
                let message = format!("environment variable {name:?} has a bad name or holds NUL");
                return Err(cannot_start(&message));
            }
        }
        if has_nul(self.dir.as_os_str()) {
            return Err(cannot_start("working directory holds a NUL character"));
        }
        Ok(())
    }

    /// Resolves the plan into a program that can be started.
    pub(super) fn ready(&self) -> Result<Program, Failure> {
        let env = self.env.iter().map(|(name, value)| (*name, *value));
        Program::new(&self.resolve()?, self.argv.iter().copied(), env, &self.dir)
            .map_err(|error| cannot_start(&error.to_string()))
    }

    fn program(&self) -> &OsStr {
        self.argv[0]
    }

    /// Returns the path of the program, looked up like a shell does.
    fn resolve(&self) -> Result<PathBuf, Failure> {
        let program = self.program();
        if program.as_encoded_bytes().contains(&b'/') {
            return Ok(self.dir.join(program));
        }
        let path = self.env.get(OsStr::new("PATH")).copied();
        let path = path.unwrap_or(OsStr::new(DEFAULT_PATH));
        let found: Vec<PathBuf> = std::env::split_paths(path)
            .map(|entry| self.dir.join(entry).join(program))
            .filter(|candidate| rustix::fs::access(candidate, Access::EXISTS).is_ok())
            .collect();
        let program = program.display();
        match found.iter().find(|candidate| is_executable(candidate)) {
            Some(candidate) => Ok(candidate.clone()),
            None => Err(cannot_start(&match found.first() {
                Some(file) => format!("program `{program}` is not executable: {}", file.display()),
                None => format!("program `{program}` not found in PATH {}", path.display()),
            })),
        }
    }

    /// Converts a start error into a failure.
    pub(super) fn explain(&self, error: &io::Error) -> Failure {
        let program = self.program().display();
        if !self.dir.is_dir() {
            let dir = self.dir.display();
            return cannot_start(&format!("working directory {dir} of `{program}` does not exist"));
        }
        let message = match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOENT) => {
                let is_there = self.resolve().is_ok_and(|path| path.exists());
                let what = if is_there { "needs an interpreter that is" } else { "is" };
                format!("program `{program}` {what} not found")
            }
            Some(Errno::ACCESS | Errno::ISDIR) => format!("program `{program}` is not executable"),
            Some(Errno::NOEXEC) => format!("program `{program}` has an unknown format"),
            Some(Errno::TOOBIG) => format!("arguments and environment of `{program}` are too long"),
            Some(Errno::AGAIN | Errno::NOMEM | Errno::MFILE | Errno::NFILE) => {
                return worker_fault(&format!("worker cannot start `{program}`: {error}"));
            }
            _ => format!("cannot start `{program}`: {error}"),
        };
        cannot_start(&message)
    }
}

/// Checks whether a program can be started. Used if a wrapping shell starts it, because the shell's
/// error message would be less specific.
pub(crate) fn check_program(dir: &Path, program: &Path) -> io::Result<()> {
    if !dir.is_dir() {
        return Err(Errno::NOENT.into());
    }
    let found = program.metadata()?;
    if !found.is_file() || !is_executable(program) {
        return Err(Errno::ACCESS.into());
    }
    let mut start = Vec::new();
    match File::open(program) {
        Ok(file) => file.take(INTERPRETER_BYTES_MAX).read_to_end(&mut start)?,
        // The file may be executable but not readable.
        Err(_) => return Ok(()),
    };
    let Some(line) = start.strip_prefix(b"#!") else { return Ok(()) };
    let mut words = line.split(|byte| byte.is_ascii_whitespace());
    let interpreter = words.find(|word| !word.is_empty()).unwrap_or_default();
    let interpreter = dir.join(OsStr::from_bytes(interpreter));
    if interpreter.exists() { Ok(()) } else { Err(Errno::NOENT.into()) }
}

fn argv(action: &Action) -> Result<Vec<&OsStr>, Failure> {
    let words: Vec<&str> = match action {
        Action::Run { script, shell: Shell::Sh } => vec!["/bin/sh", "-e", "-c", script],
        Action::Run { script, shell: Shell::Bash } => {
            vec!["bash", "-e", "-o", "pipefail", "-c", script]
        }
        Action::Exec { argv } => argv.iter().map(Text::as_str).collect(),
        _ => Vec::new(),
    };
    if words.first().is_none_or(|program| program.is_empty()) {
        return Err(cannot_start("there is no program to start"));
    }
    Ok(words.into_iter().map(OsStr::new).collect())
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, Access::EXEC_OK).is_ok()
}

fn has_nul(text: &OsStr) -> bool {
    text.as_encoded_bytes().contains(&0)
}
