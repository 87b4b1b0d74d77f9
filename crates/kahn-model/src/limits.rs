//! Limits for all external input.

use std::time::Duration;

/// Maximum length of the name of a task, DAG, worker, namespace or resource, in bytes.
pub const NAME_BYTES_MAX: usize = 128;
/// Maximum number of tasks in a DAG, after matrix expansion.
pub const TASKS_MAX: usize = 1_000_000;
/// Maximum number of dependencies in a DAG.
pub const DEPENDENCIES_MAX: usize = 5_000_000;
/// Maximum number of dependencies of a task.
pub const DEPENDENCIES_PER_TASK_MAX: usize = 1_000_000;
/// Maximum size of a DAG file, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 512 << 20;
/// Maximum number of keys and values in a YAML file, with those that aliases stand for.
pub const VALUES_MAX: usize = 32 * TASKS_MAX;
/// Maximum size of all distinct works of a DAG together, in bytes. A long value that several
/// environments contain counts once. Larger than a file, so that only texts that are repeated for
/// many tasks exceed it.
pub const WORKS_BYTES_MAX: usize = 2 * DOCUMENT_BYTES_MAX;
/// Maximum size of an action, in bytes: the script, or all arguments together.
pub const ACTION_BYTES_MAX: usize = 128 << 10;
/// Maximum number of environment variables of a task.
pub const ENV_MAX: usize = 512;
/// Maximum length of the value of an environment variable, in bytes.
pub const ENV_VALUE_BYTES_MAX: usize = 32 << 10;
/// Maximum number of secrets of a task.
pub const SECRETS_MAX: usize = 32;
/// Minimum length of a secret, in bytes. Masking a shorter one would mask unrelated text.
pub const SECRET_BYTES_MIN: usize = 8;
/// Maximum length of a secret, in bytes.
pub const SECRET_BYTES_MAX: usize = 16 << 10;
/// Maximum length of the text in front of a secret, in bytes.
pub const SECRET_PREFIX_BYTES_MAX: usize = 256;
/// Maximum number of parameters of a run.
pub const PARAMS_MAX: usize = 512;
/// Maximum total size of the inline outputs of a task, in bytes.
pub const OUTPUT_BYTES_MAX: usize = 64 << 10;
/// Maximum number of attempts of a task.
pub const ATTEMPTS_MAX: u32 = 1000;
/// Maximum length of a timeout, backoff or sleep.
pub const SPAN_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// Maximum length of a failure message, in bytes; longer ones are truncated.
pub const MESSAGE_BYTES_MAX: usize = 4 << 10;
/// Maximum length of the name of an exception type, in bytes; longer ones are truncated.
pub const EXCEPTION_BYTES_MAX: usize = 256;
/// Maximum number of exception patterns in a retry policy.
pub const EXCEPTIONS_MAX: usize = 32;
/// Maximum number of concurrency keys of a task.
pub const CONCURRENCY_KEYS_MAX: usize = 16;
/// Maximum number of label rules of a task.
pub const LABEL_RULES_MAX: usize = 64;
/// Maximum length of an expression, in bytes.
pub const EXPRESSION_BYTES_MAX: usize = 4 << 10;
/// Maximum length of an expression with the values bound to it at compile time, in bytes.
pub const BOUND_EXPRESSION_BYTES_MAX: usize = 256 << 10;
/// Maximum total length of all expressions of a DAG with the values bound to them, in bytes.
pub const BOUND_BYTES_MAX: usize = 32 << 20;
/// Maximum number of labels of a worker.
pub const LABELS_MAX: usize = 128;
/// Maximum length of an idempotency key, in bytes.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 256;
