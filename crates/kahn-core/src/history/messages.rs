//! What failed attempts said, beside the records of their ends.

use std::collections::VecDeque;

/// The messages of failed attempts of a run, earlier attempts of a task included.
///
/// Each is cut to [`Messages::EACH_BYTES_MAX`]. When all together would exceed
/// [`Messages::ALL_BYTES_MAX`], the oldest are dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Messages {
    /// Positions of records in the history, ascending, each with its message.
    kept: VecDeque<(u32, Box<str>)>,
    n_bytes: usize,
}

impl Messages {
    /// Limit for one message, in bytes.
    pub const EACH_BYTES_MAX: usize = 1 << 10;

    /// Limit for all messages of a run, in bytes.
    pub const ALL_BYTES_MAX: usize = 64 << 10;

    /// Keeps what the attempt said whose end is the record at this position. Positions ascend.
    /// Nothing is kept of an empty message.
    pub fn push(&mut self, record: u32, message: &str) {
        if message.is_empty() {
            return;
        }
        let message = &message[..message.floor_char_boundary(Self::EACH_BYTES_MAX)];
        self.n_bytes += message.len();
        self.kept.push_back((record, message.into()));
        while self.n_bytes > Self::ALL_BYTES_MAX {
            let Some((_, oldest)) = self.kept.pop_front() else { return };
            self.n_bytes -= oldest.len();
        }
    }

    /// What the attempt said whose end is the record at this position, if that is kept.
    #[must_use]
    pub fn get(&self, record: u32) -> Option<&str> {
        let at = self.kept.binary_search_by_key(&record, |(record, _)| *record).ok()?;
        Some(&self.kept.get(at)?.1)
    }

    /// All that are kept, by ascending positions of records.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &str)> {
        self.kept.iter().map(|(record, message)| (*record, &**message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_found_by_the_record_of_its_attempt() {
        let mut messages = Messages::default();
        for (record, message) in [(3, "first"), (5, ""), (9, "second")] {
            messages.push(record, message);
        }
        assert_eq!(messages.get(3), Some("first"));
        assert_eq!(messages.get(5), None);
        assert_eq!(messages.get(9), Some("second"));
        assert_eq!(messages.iter().count(), 2);
    }

    #[test]
    fn long_messages_are_cut_and_the_oldest_dropped() {
        let mut messages = Messages::default();
        for record in 0..1000 {
            messages.push(record, &"é".repeat(10_000));
        }
        let n_bytes: usize = messages.iter().map(|(_, message)| message.len()).sum();
        assert_eq!(n_bytes, Messages::ALL_BYTES_MAX);
        assert_eq!(messages.get(0), None);
        assert_eq!(messages.get(999).unwrap().len(), Messages::EACH_BYTES_MAX);
    }
}
