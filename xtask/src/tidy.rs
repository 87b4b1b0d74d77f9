//! `cargo xtask tidy`: checks conventions of this repository that neither the compiler nor clippy
//! checks.
//!
//! Each check is a module below with a function from sources to problems. The largest files and
//! functions are only listed for review; size alone is not a problem.

mod headers;
mod invariants;
mod largest;
mod layers;
mod leftovers;
mod links;
mod modules;
mod purity;
mod restricted_crates;
mod sleeps;
mod source;

use std::fmt;

use anyhow::{Result, bail};

use crate::process::{print_error, say};
use crate::workspace::{metadata, root};
use source::Tree;

/// A violation and its location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    path: String,
    line: usize,
    message: String,
}

impl Problem {
    /// Creates a problem. `line` counts from 1; 0 stands for the whole file.
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.message),
            line => write!(f, "{}:{line}: {}", self.path, self.message),
        }
    }
}

/// Runs every check and prints all problems.
pub(crate) fn run() -> Result<()> {
    let tree = Tree::read(&root())?;
    say(&largest::report(&tree));
    let problems: Vec<Problem> = [
        layers::check(&root(), &metadata()?)?,
        purity::check(&tree),
        restricted_crates::check(&tree),
        headers::check(&tree),
        leftovers::check(&tree),
        links::check(&root(), &tree),
        invariants::check(&tree),
        modules::check(&tree),
        sleeps::check(&tree),
    ]
    .concat();
    for problem in &problems {
        print_error(&problem.to_string());
    }
    match problems.len() {
        0 => {
            say(&format!("tidy: {} files, no problems\n", tree.files.len()));
            Ok(())
        }
        count => bail!("tidy: {count} problems"),
    }
}
