//! A stack that is large enough for every expression that the guard lets through.

use std::cell::Cell;

use super::ExprError;

/// 16 MiB, of which the deepest expression uses a tenth in a debug build.
pub(super) const STACK_BYTES: usize = 16 << 20;

thread_local! {
    static IS_LARGE: Cell<bool> = const { Cell::new(false) };
}

/// Says that the stack of this thread is large.
pub(super) fn mark_large() {
    IS_LARGE.set(true);
}

/// Calls `work` on a large stack: here when this is one, else on a thread of its own.
///
/// # Errors
///
/// When the system gives no thread, or `work` panics.
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
