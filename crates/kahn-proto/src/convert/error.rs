//! What can be wrong with a message.

use kahn_model::{DagError, InvalidExceptionPattern, InvalidName};

/// Why a message has no meaning in the model. Each names the field at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// A field that must be there is not.
    #[error("{field} is missing")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// An enum is unspecified or has a value that is not known here.
    #[error("{field} has the unknown value {found}")]
    UnknownValue {
        /// The field.
        field: &'static str,
        /// Its number.
        found: i32,
    },
    /// A name breaks the rules for names.
    #[error("{field}: {source}")]
    Name {
        /// The field.
        field: &'static str,
        /// Which rule.
        source: InvalidName,
    },
    /// Bytes or a column have another length than they must.
    #[error("{field} has length {found}, not {expected}")]
    Length {
        /// The field.
        field: &'static str,
        /// How long it is.
        found: usize,
        /// How long it must be.
        expected: usize,
    },
    /// A number, such as a position, is out of bounds.
    #[error("{field} is {found}, beyond {limit}")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// What it is.
        found: i64,
        /// The last that is allowed.
        limit: i64,
    },
    /// A key that may come once comes twice.
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
        /// What the parser says.
        reason: String,
    },
    /// What should name exceptions does not.
    #[error("profile.retry_exceptions: {0}")]
    Exceptions(#[from] InvalidExceptionPattern),
    /// The tasks and dependencies do not make a DAG.
    #[error("{0}")]
    Dag(#[from] DagError),
}

impl ConvertError {
    /// A column of `found` entries where `expected` are needed.
    pub(crate) fn length(
        field: &'static str,
        found: usize,
        expected: usize,
    ) -> Result<(), ConvertError> {
        if found == expected { Ok(()) } else { Err(Self::Length { field, found, expected }) }
    }

    /// A number beyond `limit`; numbers too large to be shown are shown as the largest.
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
