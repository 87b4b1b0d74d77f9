//! Configuration in layers: defaults < file < profile in the file < environment < flags.
//!
//! One section per component, read with [`load`]. Unknown keys are refused by name, with where they
//! stand and what was probably meant. What is known is what the section's `Default` serializes to:
//! a struct must therefore not skip fields when it serializes, and an empty map or an absent
//! `Option` in the default takes any key below it (serde still has its say).
//!
//! A file looks like this; the table of the profile that `KAHN_ENV` names is laid over the rest:
//!
//! ```toml
//! [coordinator]
//! listen = "127.0.0.1:7700"
//!
//! [profile.production.coordinator]
//! listen = "0.0.0.0:7700"
//! ```
//!
//! `KAHN_COORDINATOR__LISTEN` sets the same key from the environment: two underscores between
//! levels, commas between the items of a list. An empty variable counts as unset.

mod environment;
mod file;
mod known;
mod sources;
mod tree;

use std::fmt;
use std::io;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::secret::mask_url_password;
use known::Known;
use tree::Node;

pub use environment::Environment;
pub use sources::{Profile, Sources};

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// A line of a file, counted from 1.
    File {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// A flag of the command line.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the defaults"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{origin}: {message}")]
    Malformed {
        /// Where.
        origin: Origin,
        /// What the parser said.
        message: String,
    },
    /// A key, section or profile that does not exist.
    #[error("unknown {what} `{name}` in {origin}; {advice}")]
    Unknown {
        /// `key`, `section` or `profile`.
        what: &'static str,
        /// Its full dotted name.
        name: String,
        /// Where it was set.
        origin: Origin,
        /// The nearest known one, or all known ones when none is near.
        advice: String,
    },
    /// A value of the wrong type, or one that its type refuses.
    #[error("section `{section}`: {source}")]
    Invalid {
        /// The section.
        section: String,
        /// Names the key and where it was set.
        source: config::ConfigError,
    },
    /// A section cannot be written as TOML.
    #[error("section `{section}` cannot be shown: {message}")]
    Unprintable {
        /// The section.
        section: String,
        /// Why.
        message: String,
    },
}

/// Reads one section through all layers.
///
/// # Errors
///
/// Returns a [`ConfigError`] that names the key and where it was set.
pub fn load<T>(section: &str, sources: &Sources) -> Result<T, ConfigError>
where
    T: DeserializeOwned + Serialize + Default,
{
    let invalid = |source| ConfigError::Invalid { section: section.to_owned(), source };
    let defaults = serde_json::to_value(T::default())
        .map_err(|error| invalid(config::ConfigError::Message(error.to_string())))?;
    let known = Known::new(section, &defaults);
    let mut effective = Node::from_json(&defaults);
    for layer in sources.layers(section, &known)? {
        known.check(&layer)?;
        effective.overlay(layer);
    }
    effective.into_value().try_deserialize().map_err(invalid)
}

/// Writes a section as TOML, with every [`crate::secret::Secret`] and every password in a URL
/// masked. Keys without a value are left out.
///
/// # Errors
///
/// Returns [`ConfigError::Unprintable`] for what TOML cannot express, such as a number past `i64`.
pub fn show<T: Serialize>(section: &str, config: &T) -> Result<String, ConfigError> {
    let unprintable = |error: toml::ser::Error| ConfigError::Unprintable {
        section: section.to_owned(),
        message: error.to_string(),
    };
    let mut value = toml::Value::try_from(config).map_err(unprintable)?;
    mask_urls(&mut value);
    let document = toml::Table::from_iter([(section.to_owned(), value)]);
    toml::to_string_pretty(&document).map_err(unprintable)
}

fn mask_urls(value: &mut toml::Value) {
    match value {
        toml::Value::String(text) => *text = mask_url_password(text),
        toml::Value::Array(items) => items.iter_mut().for_each(mask_urls),
        toml::Value::Table(table) => table.iter_mut().for_each(|(_, value)| mask_urls(value)),
        toml::Value::Integer(_)
        | toml::Value::Float(_)
        | toml::Value::Boolean(_)
        | toml::Value::Datetime(_) => {}
    }
}

#[cfg(test)]
mod tests;
