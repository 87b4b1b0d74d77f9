//! Bearer tokens: their sources and their comparison.
//!
//! A token is given inline, read from a file, or generated on the first start. Authorization is not
//! decided here.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;

use subtle::ConstantTimeEq;

use crate::secret::Secret;

/// Shorter tokens could be guessed.
pub const MIN_LENGTH: usize = 32;
/// Longer tokens do not fit well into a header.
pub const MAX_LENGTH: usize = 1024;

const PREFIX: &str = "kahn_";

/// A credential of a caller. Compared in constant time, never displayed.
#[derive(Clone, Debug)]
pub struct Token {
    secret: Secret,
    /// Where it came from, for messages.
    origin: String,
}

/// Why a token cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read or written.
    #[error("cannot use token file {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The OS error.
        source: io::Error,
    },
    /// Users other than the owner may read or write the file.
    #[error(
        "token file {path} is open to others (mode {mode:03o}); close it with: chmod 600 {path}",
        path = path.display()
    )]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The text is not a valid token.
    #[error(
        "{origin} is not a token: {MIN_LENGTH} to {MAX_LENGTH} visible ASCII characters are needed; \
         make one with: openssl rand -hex 32"
    )]
    Malformed {
        /// The source of the text; never the text.
        origin: String,
    },
    /// The OS random number generator failed.
    #[error("the OS random number generator failed: {0}")]
    NoRandomness(getrandom::Error),
}

impl Token {
    /// Generates a token from 256 random bits.
    ///
    /// # Errors
    ///
    /// Returns an error if the OS random number generator fails.
    pub fn generate() -> Result<Self, TokenError> {
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes).map_err(TokenError::NoRandomness)?;
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let secret = Secret::new(format!("{PREFIX}{digits}"));
        Ok(Self { secret, origin: "this process".to_owned() })
    }

    /// Validates a token that was given inline. `origin` names its source for the error message.
    ///
    /// # Errors
    ///
    /// Returns an error for a token that is too short, too long, or not visible ASCII.
    pub fn from_secret(secret: &Secret, origin: &str) -> Result<Self, TokenError> {
        let text = secret.expose().trim();
        let is_visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        if is_visible && (MIN_LENGTH..=MAX_LENGTH).contains(&text.len()) {
            Ok(Self { secret: Secret::new(text), origin: origin.to_owned() })
        } else {
            Err(TokenError::Malformed { origin: origin.to_owned() })
        }
    }

    /// Reads a token from a file that only its owner can read, or also a group if the owner is root.
    ///
    /// # Errors
    ///
    /// Returns an error for a file accessible to other users, and for the same texts as
    /// [`Token::from_secret`].
    pub fn from_file(path: &Path) -> Result<Self, TokenError> {
        Self::read(path).map_err(|source| TokenError::File { path: path.to_owned(), source })?
    }

    fn read(path: &Path) -> io::Result<Result<Self, TokenError>> {
        let file = File::open(path)?;
        // Checks the open file, not the path, which could be replaced in between.
        let found = file.metadata()?;
        let mode = found.mode() & 0o777;
        if mode & open_bits(found.uid()) != 0 {
            return Ok(Err(TokenError::OpenToOthers { path: path.to_owned(), mode }));
        }
        let mut text = String::new();
        file.take(2 * MAX_LENGTH as u64).read_to_string(&mut text)?;
        Ok(Self::from_secret(&Secret::new(text), &format!("file {}", path.display())))
    }

    /// Reads a token from a file, or creates the file (mode 0600) with a new token on the first
    /// start.
    ///
    /// Two processes that start concurrently get the same token.
    ///
    /// # Errors
    ///
    /// See [`Token::from_file`] and [`Token::generate`].
    pub fn from_file_or_generate(path: &Path) -> Result<Self, TokenError> {
        match Self::from_file(path) {
            Err(TokenError::File { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            read => return read,
        }
        let token = Self::generate()?;
        match token.write_new(path) {
            Ok(()) => Ok(Self { origin: format!("file {}", path.display()), ..token }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Self::from_file(path),
            Err(source) => Err(TokenError::File { path: path.to_owned(), source }),
        }
    }

    /// Writes the file under another name and links it, so that it is never seen half written.
    fn write_new(&self, path: &Path) -> io::Result<()> {
        if let Some(directory) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        let mut draft = path.as_os_str().to_owned();
        draft.push(format!(".{}-{:08x}.new", process::id(), fastrand::u32(..)));
        let draft = PathBuf::from(draft);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        let written = file
            .write_all(format!("{}\n", self.expose()).as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::hard_link(&draft, path));
        fs::remove_file(&draft)?;
        written
    }

    /// Returns where the token came from, such as `file /etc/kahn/token`; never the token.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Returns the token, to send it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.secret.expose()
    }

    /// Returns the value of an `authorization` header with this token.
    #[must_use]
    pub fn to_header(&self) -> Secret {
        Secret::new(format!("Bearer {}", self.expose()))
    }

    /// Compares `presented` with this token in constant time.
    #[must_use]
    pub fn matches(&self, presented: &str) -> bool {
        self.expose().as_bytes().ct_eq(presented.as_bytes()).into()
    }

    /// Returns whether an `authorization` header contains this token.
    #[must_use]
    pub fn matches_header(&self, header: Option<&str>) -> bool {
        header.and_then(|header| header.split_once(' ')).is_some_and(|(scheme, presented)| {
            scheme.eq_ignore_ascii_case("bearer") && self.matches(presented.trim_start())
        })
    }
}

/// Returns the permissions that a token file of this user must not have. Root may let a group read it:
/// so do mounted Secrets of Kubernetes and credentials of systemd.
fn open_bits(owner: u32) -> u32 {
    if owner == 0 { 0o037 } else { 0o077 }
}

#[cfg(test)]
mod tests;
