//! Errors of conversions.

use kahn_model::{DagError, InvalidExceptionPattern, InvalidName};

/// Why a message cannot be converted. Each variant names the invalid field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// A required field is missing.
    #[error("{field} is missing")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// An enum is unspecified or has an unknown value.
    #[error("{field} has the unknown value {found}")]
    UnknownValue {
        /// The field.
        field: &'static str,
        /// The number of the value.
        found: i32,
    },
    /// A name is not valid.
    #[error("{field}: {source}")]
    Name {
        /// The field.
        field: &'static str,
        /// The violated rule.
        source: InvalidName,
    },
    /// A byte string or column has the wrong length.
    #[error("{field} has length {found}, not {expected}")]
    Length {
        /// The field.
        field: &'static str,
        /// The actual length.
        found: usize,
        /// The required length.
        expected: usize,
    },
    /// A number, such as a position, is out of bounds.
    #[error("{field} is {found}, beyond {limit}")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// The actual number.
        found: i64,
        /// The largest allowed number.
        limit: i64,
    },
    /// A key occurs twice.
    #[error("{field} names {key} twice")]
    Repeated {
        /// The field.
        field: &'static str,
        /// The key.
        key: String,
    },
    /// A value is not JSON.
    #[error("{field} `{name}` is not JSON: {reason}")]
    NotJson {
        /// The field.
        field: &'static str,
        /// The name of the value.
        name: String,
        /// The message of the parser.
        reason: String,
    },
    /// An exception pattern is not valid.
    #[error("profile.retry_exceptions: {0}")]
    Exceptions(#[from] InvalidExceptionPattern),
    /// The tasks and dependencies are not a valid DAG.
    #[error("{0}")]
    Dag(#[from] DagError),
}

impl ConvertError {
    /// Creates an error for a column with `found` entries instead of `expected`.
    pub(crate) fn length(
        field: &'static str,
        found: usize,
        expected: usize,
    ) -> Result<(), ConvertError> {
        if found == expected { Ok(()) } else { Err(Self::Length { field, found, expected }) }
    }

    /// Creates an error for a number beyond `limit`. Numbers that do not fit are shown as the
    /// largest.
    pub(crate) fn out_of_range(
        field: &'static str,
        found: impl TryInto<i64>,
        limit: impl TryInto<i64>,
    ) -> Self {
        let shown = |number: Result<i64, _>| number.unwrap_or(i64::MAX);
        Self::OutOfRange {
            field,
            found: shown(found.try_into().map_err(drop)),
            limit: shown(limit.try_into().map_err(drop)),
        }
    }
}
