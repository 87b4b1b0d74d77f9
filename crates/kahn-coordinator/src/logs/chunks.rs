//! Decides when to upload which part of an output. No IO.

use std::ops::Range;
use std::time::Duration;

use super::Extent;

/// Maximum size of an object.
pub(super) const CHUNK_BYTES: u64 = 1 << 20;
/// How long the first bytes wait for more.
const PATIENCE_MIN: Duration = Duration::from_secs(1);
/// How long any bytes wait for more. An attempt that prints a bit all the time causes an object
/// every now and then, and not one each second: its worker has the bytes, too.
const PATIENCE_MAX: Duration = Duration::from_secs(30);

/// The next step of uploading an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Wait for more output, if there is a time, no longer than that.
    Wait(Option<Duration>),
    /// Upload a part.
    Part(Range<u64>),
    /// Upload the rest, with which the output ends. A small output is a single object.
    End(Range<u64>),
}

/// Decides on the next step for an output of which `stored` bytes are uploaded.
///
/// `waited` is the time since there are bytes to upload, and `n_small` the number of objects that
/// were uploaded although they were small.
pub(super) fn next(stored: u64, extent: Extent, waited: Duration, n_small: u32) -> Next {
    let rest = extent.len.saturating_sub(stored);
    if rest > CHUNK_BYTES || (rest == CHUNK_BYTES && !extent.is_sealed) {
        return Next::Part(stored..stored + CHUNK_BYTES);
    }
    if extent.is_sealed {
        return Next::End(stored..extent.len);
    }
    if rest == 0 {
        return Next::Wait(None);
    }
    let patience = PATIENCE_MIN.saturating_mul(n_small.saturating_add(1)).min(PATIENCE_MAX);
    match patience.checked_sub(waited).filter(|left| !left.is_zero()) {
        Some(left) => Next::Wait(Some(left)),
        None => Next::Part(stored..extent.len),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(len: u64) -> Extent {
        Extent { len, is_sealed: false }
    }

    fn sealed(len: u64) -> Extent {
        Extent { len, is_sealed: true }
    }

    #[test]
    fn a_small_complete_output_is_a_single_object() {
        assert_eq!(next(0, sealed(7), Duration::ZERO, 0), Next::End(0..7));
        assert_eq!(next(0, sealed(0), Duration::ZERO, 0), Next::End(0..0));
        assert_eq!(next(0, sealed(CHUNK_BYTES), Duration::ZERO, 0), Next::End(0..CHUNK_BYTES));
    }

    #[test]
    fn a_large_output_is_uploaded_in_parts_while_it_comes() {
        let more = CHUNK_BYTES + 5;
        assert_eq!(next(0, open(more), Duration::ZERO, 0), Next::Part(0..CHUNK_BYTES));
        assert_eq!(next(0, open(CHUNK_BYTES), Duration::ZERO, 0), Next::Part(0..CHUNK_BYTES));
        assert_eq!(
            next(CHUNK_BYTES, sealed(more), Duration::ZERO, 0),
            Next::End(CHUNK_BYTES..more)
        );
    }

    #[test]
    fn a_few_bytes_wait_for_more_and_longer_each_time() {
        assert_eq!(next(5, open(5), Duration::from_secs(99), 0), Next::Wait(None));
        let second = Duration::from_secs(1);
        assert_eq!(next(5, open(9), second / 4, 0), Next::Wait(Some(second * 3 / 4)));
        assert_eq!(next(5, open(9), second, 0), Next::Part(5..9));
        assert_eq!(next(5, open(9), second, 2), Next::Wait(Some(second * 2)));
        assert_eq!(next(5, open(9), PATIENCE_MAX, u32::MAX), Next::Part(5..9));
    }
}
