//! A program to start, in the representation that the system calls expect.

use std::ffi::OsStr;
#[cfg(target_os = "linux")]
use std::ffi::c_char;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
#[cfg(target_os = "linux")]
use std::ptr;

/// A program, its arguments, its environment, and its working directory.
///
/// `Debug` does not show arguments and environment, since they may contain secrets.
pub struct Program {
    pub(crate) path: Texts,
    pub(crate) argv: Texts,
    /// Strings of the form `NAME=value`.
    pub(crate) env: Texts,
    pub(crate) dir: Texts,
}

impl Program {
    /// Creates a program at `path`, which is not searched for, with the working directory `dir`.
    /// `argv` starts with the program's name. If a variable is given more than once, the program
    /// decides which value counts.
    ///
    /// # Errors
    ///
    /// Returns [`WithNul`] if any string contains a NUL.
    pub fn new<'a>(
        path: &Path,
        argv: impl IntoIterator<Item = &'a OsStr>,
        env: impl IntoIterator<Item = (&'a OsStr, &'a OsStr)>,
        dir: &Path,
    ) -> Result<Self, WithNul> {
        let mut program = Self {
            path: Texts::default(),
            argv: Texts::default(),
            env: Texts::default(),
            dir: Texts::default(),
        };
        program.path.push(&[path.as_os_str()])?;
        program.dir.push(&[dir.as_os_str()])?;
        for argument in argv {
            program.argv.push(&[argument])?;
        }
        for (name, value) in env {
            program.env.push(&[name, OsStr::new("="), value])?;
        }
        Ok(program)
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("path", &self.path.iter().next()).finish_non_exhaustive()
    }
}

/// A string contains a NUL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WithNul;

impl fmt::Display for WithNul {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text holds a NUL character")
    }
}

impl std::error::Error for WithNul {}

/// NUL-terminated strings in one buffer.
#[derive(Default)]
pub(crate) struct Texts {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl Texts {
    fn push(&mut self, parts: &[&OsStr]) -> Result<(), WithNul> {
        self.starts.push(self.bytes.len());
        for part in parts {
            let part = part.as_bytes();
            if part.contains(&0) {
                return Err(WithNul);
            }
            self.bytes.extend_from_slice(part);
        }
        self.bytes.push(0);
        Ok(())
    }

    /// Iterates over the strings without their NUL.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &OsStr> {
        self.starts.iter().map(|&start| {
            let text = self.bytes[start..].split(|byte| *byte == 0).next();
            OsStr::from_bytes(text.unwrap_or_default())
        })
    }

    /// Returns a pointer to the first string.
    #[cfg(target_os = "linux")]
    pub(crate) fn first(&self) -> *const c_char {
        self.bytes.as_ptr().cast()
    }

    /// Returns pointers to all strings, followed by a null pointer.
    #[cfg(target_os = "linux")]
    pub(crate) fn pointers(&self) -> Vec<*const c_char> {
        let begin = |&start: &usize| self.bytes[start..].as_ptr().cast();
        self.starts.iter().map(begin).chain([ptr::null()]).collect()
    }
}
