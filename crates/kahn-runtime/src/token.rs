//! Bearer tokens: where they come from and how they are compared.
//!
//! A token is given inline, by file, or made on the first start. Who may do what with it is not
//! decided here.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;

use subtle::ConstantTimeEq;

use crate::secret::Secret;

/// A token shorter than this can be guessed.
pub const MIN_LENGTH: usize = 32;
/// A token longer than this does not fit into a header comfortably.
pub const MAX_LENGTH: usize = 1024;

const PREFIX: &str = "kahn_";

/// Shows who calls. Compared in constant time, never shown.
#[derive(Clone, Debug)]
pub struct Token(Secret);

/// Why a token cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read or written.
    #[error("cannot use token file {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others than its owner may read or write the file.
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
    /// The text cannot be a token.
    #[error(
        "{origin} is not a token: {MIN_LENGTH} to {MAX_LENGTH} visible ASCII characters are needed; \
         make one with: openssl rand -hex 32"
    )]
    Malformed {
        /// Where the text came from; never the text.
        origin: String,
    },
    /// The system has no randomness to give.
    #[error("no randomness from the system: {0}")]
    NoRandomness(getrandom::Error),
}

impl Token {
    /// Makes a new token from 256 random bits.
    ///
    /// # Errors
    ///
    /// Fails when the system gives no randomness.
    pub fn generate() -> Result<Self, TokenError> {
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes).map_err(TokenError::NoRandomness)?;
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self(Secret::new(format!("{PREFIX}{digits}"))))
    }

    /// Takes a token that was given inline. `origin` names where, for the refusal.
    ///
    /// # Errors
    ///
    /// Refuses what is too short, too long, or not visible ASCII.
    pub fn from_secret(secret: &Secret, origin: &str) -> Result<Self, TokenError> {
        let text = secret.expose().trim();
        let is_visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        if is_visible && (MIN_LENGTH..=MAX_LENGTH).contains(&text.len()) {
            Ok(Self(Secret::new(text)))
        } else {
            Err(TokenError::Malformed { origin: origin.to_owned() })
        }
    }

    /// Reads a token from a file that only its owner may read.
    ///
    /// # Errors
    ///
    /// Refuses a file that is open to others, and what [`Token::from_secret`] refuses.
    pub fn from_file(path: &Path) -> Result<Self, TokenError> {
        Self::read(path).map_err(|source| TokenError::File { path: path.to_owned(), source })?
    }

    fn read(path: &Path) -> io::Result<Result<Self, TokenError>> {
        let file = File::open(path)?;
        // Of the open file, not of the path: nobody can exchange it in between.
        let mode = file.metadata()?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Ok(Err(TokenError::OpenToOthers { path: path.to_owned(), mode }));
        }
        let mut text = String::new();
        file.take(2 * MAX_LENGTH as u64).read_to_string(&mut text)?;
        Ok(Self::from_secret(&Secret::new(text), &format!("the content of {}", path.display())))
    }

    /// Reads a token from a file, or makes the file (mode 0600) with a new token on the first start.
    ///
    /// Two processes that start at once end with the same token.
    ///
    /// # Errors
    ///
    /// As [`Token::from_file`] and [`Token::generate`].
    pub fn from_file_or_generate(path: &Path) -> Result<Self, TokenError> {
        match Self::from_file(path) {
            Err(TokenError::File { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            read => return read,
        }
        let token = Self::generate()?;
        match token.write_new(path) {
            Ok(()) => Ok(token),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Self::from_file(path),
            Err(source) => Err(TokenError::File { path: path.to_owned(), source }),
        }
    }

    /// Writes the whole file under another name and links it: it is never seen half written.
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

    /// The token itself, to send it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// The value of an `authorization` header that shows this token.
    #[must_use]
    pub fn to_header(&self) -> Secret {
        Secret::new(format!("Bearer {}", self.expose()))
    }

    /// Whether `presented` is this token, in time that does not depend on where they differ.
    #[must_use]
    pub fn matches(&self, presented: &str) -> bool {
        self.expose().as_bytes().ct_eq(presented.as_bytes()).into()
    }

    /// Whether an `authorization` header shows this token.
    #[must_use]
    pub fn matches_header(&self, header: Option<&str>) -> bool {
        header.and_then(|header| header.split_once(' ')).is_some_and(|(scheme, presented)| {
            scheme.eq_ignore_ascii_case("bearer") && self.matches(presented.trim_start())
        })
    }
}

#[cfg(test)]
mod tests;
