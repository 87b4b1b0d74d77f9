//! Configuration in layers: defaults < file < profile in the file < environment < flags.
//!
//! One section per component, read with [`load`]. Unknown keys are refused with their name, their
//! location and a suggestion. The known keys are those that the section's `Default` serializes to:
//! a struct must therefore not skip fields when serializing, and an empty map or an absent `Option`
//! in the default accepts any key below it (serde still validates it).
//!
//! An example file; the table of the profile that `KAHN_ENV` selects overrides the rest:
//!
//! ```toml
//! [coordinator]
//! listen = "127.0.0.1:7700"
//!
//! [profile.production.coordinator]
//! listen = "0.0.0.0:7700"
//! ```
//!
//! `KAHN_COORDINATOR__LISTEN` sets the same key from the environment: two underscores separate
//! levels, commas separate list items. An empty variable counts as unset.

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
    /// The built-in default.
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
    /// A command-line flag.
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
        /// The OS error.
        source: io::Error,
    },
    /// The file is not valid TOML.
    #[error("{origin}: {message}")]
    Malformed {
        /// The location.
        origin: Origin,
        /// The parser's message.
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
        /// The most similar known name, or all known names.
        advice: String,
    },
    /// A value of the wrong type, or one that its type rejects.
    #[error("section `{section}`: {source}")]
    Invalid {
        /// The section.
        section: String,
        /// Names the key and where it was set.
        source: config::ConfigError,
    },
    /// A section cannot be serialized as TOML.
    #[error("section `{section}` cannot be shown: {message}")]
    Unprintable {
        /// The section.
        section: String,
        /// The reason.
        message: String,
    },
}

/// Reads one section from all layers.
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

/// Serializes a section as TOML, with every [`crate::secret::Secret`] and every password in a URL
/// masked. Keys without a value are omitted.
///
/// # Errors
///
/// Returns [`ConfigError::Unprintable`] for a value that TOML cannot express, such as a number
/// beyond `i64`.
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
