//! Names, ids and tokens.

use kahn_model::{Name, Namespace, RunId, TaskIx, Token, WorkerId};
use prost::bytes::Bytes;

use super::ConvertError;
use crate::storage as wire;

/// Checks a name.
///
/// # Errors
///
/// Returns an error if `text` is not a valid name.
pub fn name(field: &'static str, text: &str) -> Result<Name, ConvertError> {
    Name::new(text).map_err(|source| ConvertError::Name { field, source })
}

/// Checks the name of a worker.
///
/// # Errors
///
/// Returns an error if `text` is not a valid name.
pub fn worker(field: &'static str, text: &str) -> Result<WorkerId, ConvertError> {
    name(field, text).map(WorkerId::new)
}

/// Checks the name of a namespace.
///
/// # Errors
///
/// Returns an error if `text` is not a valid name.
pub fn namespace(field: &'static str, text: &str) -> Result<Namespace, ConvertError> {
    name(field, text).map(Namespace::new)
}

/// Returns the 16 bytes of a run's id.
#[must_use]
pub fn run_to_wire(run: RunId) -> Bytes {
    Bytes::copy_from_slice(run.as_bytes())
}

/// Decodes the id of a run.
///
/// # Errors
///
/// Returns an error if there are not exactly 16 bytes.
pub fn run_from_wire(field: &'static str, bytes: &[u8]) -> Result<RunId, ConvertError> {
    RunId::from_slice(bytes).ok_or(ConvertError::Length { field, found: bytes.len(), expected: 16 })
}

/// Checks that a DAG of `n_tasks` tasks has this task.
///
/// # Errors
///
/// Returns an error if it does not.
pub fn task(field: &'static str, task: u32, n_tasks: usize) -> Result<TaskIx, ConvertError> {
    let ix = TaskIx(task);
    if ix.index() < n_tasks {
        return Ok(ix);
    }
    Err(ConvertError::out_of_range(field, task, n_tasks.saturating_sub(1)))
}

/// Encodes a token.
#[must_use]
pub fn token_to_wire(token: Token) -> wire::Token {
    wire::Token { epoch: token.epoch, serial: token.serial, nonce: token.nonce }
}

/// Decodes a token. All tokens are valid; whether one is current is checked elsewhere.
///
/// # Errors
///
/// Returns an error if the token is missing.
pub fn token_from_wire(
    field: &'static str,
    token: Option<wire::Token>,
) -> Result<Token, ConvertError> {
    let wire::Token { epoch, serial, nonce } = token.ok_or(ConvertError::Missing { field })?;
    Ok(Token { epoch, serial, nonce })
}
