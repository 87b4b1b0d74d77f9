//! Secrets, as a DAG asks for them: by name. What they are is known to workers alone.

use crate::Name;

/// Where a task finds a secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecretTarget {
    /// In the environment variable of this name.
    Variable(Box<str>),
    /// In a file; the environment variable of this name holds its path.
    File(Box<str>),
    /// In the header of this name, of a request over HTTP.
    Header(Box<str>),
}

impl SecretTarget {
    /// The name of the variable or the header.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Variable(name) | Self::File(name) | Self::Header(name) => name,
        }
    }
}

/// The use of one secret by a task.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretUse {
    /// Where the task finds it.
    pub target: SecretTarget,
    /// What goes before it, such as `Bearer `. No part of the secret.
    pub prefix: Box<str>,
    /// The name under which workers know it.
    pub secret: Name,
}

impl SecretUse {
    /// The label that a worker bears for each secret that it has, and that a use asks for.
    #[must_use]
    pub fn label_of(secret: &str) -> String {
        format!("secret/{secret}")
    }
}
