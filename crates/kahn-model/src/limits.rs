//! The bounds of everything that comes from outside, in one place.

use std::time::Duration;

/// Longest name of a task, DAG, worker, namespace or resource, in bytes.
pub const NAME_BYTES_MAX: usize = 128;
/// Most tasks in one DAG, after matrix expansion.
pub const TASKS_MAX: usize = 1_000_000;
/// Most dependencies in one DAG.
pub const DEPENDENCIES_MAX: usize = 5_000_000;
/// Most dependencies of one task.
pub const DEPENDENCIES_PER_TASK_MAX: usize = 1_000_000;
/// Largest DAG file in bytes that is read at all.
pub const DOCUMENT_BYTES_MAX: usize = 512 << 20;
/// Longest text of one action: a script, or all arguments together, in bytes.
pub const ACTION_BYTES_MAX: usize = 128 << 10;
/// Most environment variables of one task.
pub const ENV_MAX: usize = 512;
/// Longest value of an environment variable, in bytes.
pub const ENV_VALUE_BYTES_MAX: usize = 32 << 10;
/// Most secrets of one task.
pub const SECRETS_MAX: usize = 32;
/// Shortest secret, in bytes: a shorter one could not be masked without masking what is none.
pub const SECRET_BYTES_MIN: usize = 8;
/// Longest secret, in bytes.
pub const SECRET_BYTES_MAX: usize = 16 << 10;
/// Longest text before a secret, in bytes.
pub const SECRET_PREFIX_BYTES_MAX: usize = 256;
/// Most parameters of one run.
pub const PARAMS_MAX: usize = 512;
/// Longest inline outputs of one task, all values together, in bytes.
pub const OUTPUT_BYTES_MAX: usize = 64 << 10;
/// Most attempts of one task.
pub const ATTEMPTS_MAX: u32 = 1000;
/// Longest timeout, backoff or sleep.
pub const SPAN_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// Longest message that explains a failure, in bytes; longer ones are cut.
pub const MESSAGE_BYTES_MAX: usize = 4 << 10;
/// Longest name of the type of an exception, in bytes; longer ones are cut.
pub const EXCEPTION_BYTES_MAX: usize = 256;
/// Most patterns of exceptions in one retry policy.
pub const EXCEPTIONS_MAX: usize = 32;
/// Most named concurrency keys of one task.
pub const CONCURRENCY_KEYS_MAX: usize = 16;
/// Most label rules of one task.
pub const LABEL_RULES_MAX: usize = 64;
/// Longest expression, in bytes.
pub const EXPRESSION_BYTES_MAX: usize = 4 << 10;
/// Longest expression with the values bound to it that are fixed when a DAG is compiled, in bytes.
pub const BOUND_EXPRESSION_BYTES_MAX: usize = 256 << 10;
/// Most bytes of all expressions of a DAG with the values bound to them.
pub const BOUND_BYTES_MAX: usize = 32 << 20;
/// Most labels of one worker.
pub const LABELS_MAX: usize = 128;
/// Longest idempotency key, in bytes.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 256;
