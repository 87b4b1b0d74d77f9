//! The hash chain over a log, which distinguishes our history from any other.

use kahn_core::log::Hash;
use sha2::{Digest, Sha256};

/// Returns the hash after appending `payload` to `prev`: the first 16 bytes of SHA-256 over both.
///
/// Blobs are not hashed: a payload refers to them by names that are derived from their content.
#[must_use]
pub fn link(prev: Hash, payload: &[u8]) -> Hash {
    let digest = Sha256::new().chain_update(prev.0).chain_update(payload).finalize();
    let mut hash = [0; 16];
    hash.copy_from_slice(&digest[..16]);
    Hash(hash)
}

#[cfg(test)]
mod tests {
    use super::link;
    use kahn_core::log::Hash;

    #[test]
    fn a_link_depends_on_both_the_chain_and_the_payload() {
        let first = link(Hash::default(), b"a");
        assert_ne!(first, link(Hash::default(), b"b"));
        assert_ne!(first, link(first, b"a"));
    }

    #[test]
    fn a_link_never_changes_between_releases() {
        assert_eq!(link(Hash::default(), b"").to_string(), "374708fff7719dd5979ec875d56cd228");
    }
}
