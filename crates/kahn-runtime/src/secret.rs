//! Text that must not be displayed.
//!
//! A [`Secret`] has no `Display`, its `Debug` and `Serialize` produce a mask, and the text is only
//! available through [`Secret::expose`], which is easy to search for. Its memory is zeroed on drop.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroize as _;

/// Replaces a secret in output.
pub const MASK: &str = "********";

/// A password, token or key.
#[derive(Clone, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text. Never log it or include it in an error.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns whether the text is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "Secret(empty)" } else { "Secret(********)" })
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.is_empty() { "" } else { MASK })
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == MASK {
            return Err(D::Error::custom("this is the mask of a secret, not a secret"));
        }
        Ok(Self(text))
    }
}

/// Masks the password of `scheme://user:password@host`; other texts are returned unchanged.
///
/// For logging URLs that may contain a password.
#[must_use]
pub fn mask_url_password(url: &str) -> String {
    let masked = url.split_once("://").and_then(|(scheme, rest)| {
        let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        // A password may contain an unescaped slash; the part before the last `@` is not a path.
        let at = rest[..authority_end].rfind('@').or_else(|| rest.rfind('@'))?;
        let (user, _password) = rest[..at].split_once(':')?;
        Some(format!("{scheme}://{user}:{MASK}{}", &rest[at..]))
    });
    masked.unwrap_or_else(|| url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_and_serialize_do_not_show_the_secret() {
        let secret = Secret::new("hunter2");
        assert!(!format!("{secret:?}").contains("hunter2"));
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"********\"");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn a_mask_is_not_accepted_as_a_secret() {
        assert!(serde_json::from_str::<Secret>("\"********\"").is_err());
        assert_eq!(serde_json::from_str::<Secret>("\"x\"").unwrap().expose(), "x");
    }

    #[test]
    fn only_the_password_of_a_url_is_masked() {
        for (url, masked) in [
            ("redis://:pw@host:6379/0", "redis://:********@host:6379/0"),
            ("rediss://kahn:p@w@host", "rediss://kahn:********@host"),
            ("redis://kahn:a/b@host", "redis://kahn:********@host"),
            ("redis://host:6379", "redis://host:6379"),
            ("redis://user@host", "redis://user@host"),
            ("plain text: no url", "plain text: no url"),
        ] {
            assert_eq!(mask_url_password(url), masked);
        }
    }
}
