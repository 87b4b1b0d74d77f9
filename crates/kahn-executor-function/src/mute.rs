//! Keeps the panic messages of functions with secrets off standard error, since they may contain
//! one. They are reported as the failure of the attempt, in which secrets are masked.

use std::cell::Cell;
use std::panic;
use std::pin::Pin;
use std::sync::Once;
use std::task::{Context, Poll};

thread_local! {
    static IS_MUTED: Cell<bool> = const { Cell::new(false) };
}

/// Installs a panic hook that prints nothing while the thread is muted.
pub(super) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if IS_MUTED.get() {
                let place = info.location().map(ToString::to_string).unwrap_or_default();
                tracing::warn!(place, "a function that was given secrets panicked");
            } else {
                usual(info);
            }
        }));
    });
}

/// Calls `work` with this thread muted if `is_wanted`. `work` must not unwind.
pub(super) fn muted<T>(is_wanted: bool, work: impl FnOnce() -> T) -> T {
    let before = IS_MUTED.replace(is_wanted);
    let done = work();
    IS_MUTED.set(before);
    done
}

/// A future that mutes the thread while it is polled. The inner future must not unwind.
pub(super) struct Muted<F>(pub(super) F);

impl<F: Future + Unpin> Future for Muted<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        muted(true, || Pin::new(&mut self.get_mut().0).poll(context))
    }
}
