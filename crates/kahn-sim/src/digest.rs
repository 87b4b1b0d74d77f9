//! A running digest. Two runs with the same seed must produce the same digest.

use std::fmt;

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// A digest of all input in order (FNV-1a over words, mixed at the end).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest(u64);

impl Digest {
    pub(crate) const fn new(salt: u64) -> Self {
        Self(OFFSET ^ salt)
    }

    pub(crate) fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(PRIME);
    }

    pub(crate) fn value(self) -> u64 {
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z ^ (z >> 31)
    }
}

impl fmt::Write for Digest {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(PRIME);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::Digest;

    #[test]
    fn a_digest_depends_on_order_and_content() {
        let of = |words: &[u64]| {
            let mut digest = Digest::new(0);
            words.iter().for_each(|word| digest.add(*word));
            digest.value()
        };
        assert_ne!(of(&[1, 2]), of(&[2, 1]));
        assert_ne!(of(&[1]), of(&[1, 0]));
        let mut text = Digest::new(0);
        text.write_str("ab").unwrap();
        assert_ne!(text.value(), of(&[]));
    }
}
