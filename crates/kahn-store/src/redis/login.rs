//! The user and password for connections.

use std::fmt;
use std::path::PathBuf;

use ::redis::RedisConnectionInfo;

use crate::error::StoreError;

/// Who connects, and the source of the password.
#[derive(Clone)]
pub(super) struct Login {
    user: Option<String>,
    password: Password,
}

#[derive(Clone)]
enum Password {
    None,
    Given(String),
    File(PathBuf),
}

impl fmt::Debug for Login {
    /// Omits the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Login {
    /// Merges what is in the URL with what is configured apart from it.
    pub(super) fn new(
        in_url: (Option<String>, Option<String>),
        user: Option<&str>,
        password_file: Option<&PathBuf>,
    ) -> Result<Self, StoreError> {
        let bad = |text: &str| Err(StoreError::BadConfig(text.to_owned()));
        let user = match (in_url.0, user) {
            (Some(_), Some(_)) => {
                return bad("the user of redis is in the URL and also configured");
            }
            (in_url, user) => in_url.or_else(|| user.map(str::to_owned)),
        };
        let password = match (in_url.1, password_file) {
            (Some(_), Some(_)) => {
                return bad("the password of redis is in the URL and also in a file: remove one");
            }
            (Some(password), None) => Password::Given(password),
            (None, Some(path)) => Password::File(path.clone()),
            (None, None) => Password::None,
        };
        if user.is_some() && matches!(password, Password::None) {
            return bad("the user of redis needs a password: set password_file");
        }
        Ok(Self { user, password })
    }

    /// Returns the settings of a connection. A password in a file is read each time, so that it can
    /// be replaced while the coordinator runs.
    pub(super) async fn settings(&self, database: i64) -> Result<RedisConnectionInfo, StoreError> {
        let mut settings = RedisConnectionInfo::default().set_db(database);
        if let Some(user) = &self.user {
            settings = settings.set_username(user);
        }
        Ok(match &self.password {
            Password::None => settings,
            Password::Given(password) => settings.set_password(password),
            Password::File(path) => {
                let context = || format!("read the password of redis from {}", path.display());
                let text = tokio::fs::read_to_string(path).await;
                let text = text.map_err(|source| StoreError::io(context(), source))?;
                settings.set_password(text.trim_end_matches(['\r', '\n']))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[tokio::test]
    async fn a_password_file_is_read_for_each_connection() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        let login = Login::new((None, None), Some("kahn"), Some(&path)).unwrap();
        let error = login.settings(0).await.unwrap_err().to_string();
        assert!(error.contains("password"), "{error}");
        for password in ["first", "second"] {
            std::fs::write(&path, format!("{password}\n")).unwrap();
            let settings = login.settings(0).await.unwrap();
            assert_eq!(settings.username(), Some("kahn"));
            assert_eq!(settings.password(), Some(password));
        }
    }

    #[test]
    fn contradictions_are_refused_without_the_password() {
        let file = PathBuf::from("file");
        for refused in [
            Login::new((some("a"), some("hunter2")), Some("b"), None),
            Login::new((None, some("hunter2")), None, Some(&file)),
            Login::new((some("a"), None), None, None),
        ] {
            let text = refused.unwrap_err().to_string();
            assert!(!text.contains("hunter2"), "{text}");
        }
        let login = Login::new((some("a"), some("hunter2")), None, None).unwrap();
        assert!(!format!("{login:?}").contains("hunter2"));
    }
}
