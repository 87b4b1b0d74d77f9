//! References to secrets by name. Only workers know the secrets themselves.

use crate::Name;

/// Where a task receives a secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecretTarget {
    /// In the environment variable of this name.
    Variable(Box<str>),
    /// In a file, whose path is the value of the environment variable of this name.
    File(Box<str>),
    /// In the header of this name of an HTTP request.
    Header(Box<str>),
}

impl SecretTarget {
    /// Returns the name of the variable or header.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Variable(name) | Self::File(name) | Self::Header(name) => name,
        }
    }
}

/// The use of a secret by a task.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretUse {
    /// Where the task receives it.
    pub target: SecretTarget,
    /// Text put in front of the secret, such as `Bearer `. Not itself secret.
    pub prefix: Box<str>,
    /// The name under which workers know it.
    pub secret: Name,
}

impl SecretUse {
    /// Returns the label that a worker has for each of its secrets, and that a use requires.
    #[must_use]
    pub fn label_of(secret: &str) -> String {
        format!("secret/{secret}")
    }
}
