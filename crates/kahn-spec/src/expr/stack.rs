//! A stack large enough for every expression that the guard accepts.

use std::cell::Cell;

use super::ExprError;

/// 16 MiB; the deepest expression uses a tenth of it in a debug build.
pub(super) const STACK_BYTES: usize = 16 << 20;

thread_local! {
    static IS_LARGE: Cell<bool> = const { Cell::new(false) };
}

/// Marks the stack of this thread as large.
pub(super) fn mark_large() {
    IS_LARGE.set(true);
}

/// Calls `work` on a large stack: on this thread if its stack is large, otherwise on a new one.
///
/// # Errors
///
/// Returns [`ExprError::Unavailable`] if the thread cannot be created or `work` panics.
pub(crate) fn on_large_stack<R: Send>(work: impl FnOnce() -> R + Send) -> Result<R, ExprError> {
    if IS_LARGE.get() {
        return Ok(work());
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("kahn-expression".into())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || {
                mark_large();
                work()
            })
            .map_err(|error| ExprError::Unavailable(error.to_string()))?;
        thread.join().map_err(|_| ExprError::Unavailable("the evaluation panicked".into()))
    })
}
