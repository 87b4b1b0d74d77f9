//! The configuration of secrets: their sources, which are variables and files of the worker, and
//! the namespaces that may use them.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use kahn_model::limits::{SECRET_BYTES_MAX, SECRET_BYTES_MIN};
use kahn_model::{InvalidName, Namespace};
use kahn_runtime::secret::Secret;
use rustix::fs::OFlags;
use serde::{Deserialize, Deserializer, Serialize};
use zeroize::Zeroizing;

/// A secret in the configuration: one entry of the section `[worker.secrets]`. Either `env` or
/// `file` is its source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
// A key that is misspelt must not leave a secret without its restriction.
#[serde(default, deny_unknown_fields)]
pub struct SecretSettings {
    /// A variable in the worker's environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// A file, which is read for each attempt. A line break at its end is ignored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// The only namespaces whose tasks may use it. Default: all.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "list")]
    pub namespaces: Option<Vec<String>>,
}

/// Reads a list, or a text that separates its items with commas, as in environment variables.
fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        List(Vec<String>),
        Text(String),
    }
    Ok(Some(match Given::deserialize(deserializer)? {
        Given::List(items) => items,
        Given::Text(text) => text.split(',').map(|item| item.trim().to_owned()).collect(),
    }))
}

impl SecretSettings {
    /// Returns the parsed namespaces, or `None` if there is no restriction.
    pub(super) fn allowed(&self) -> Result<Option<BTreeSet<Namespace>>, String> {
        let Some(names) = &self.namespaces else { return Ok(None) };
        if names.is_empty() {
            return Err("`namespaces` is empty: name some, or omit it to allow all".to_owned());
        }
        let parsed = names.iter().map(|name| name.parse()).collect::<Result<_, InvalidName>>();
        parsed.map(Some).map_err(|error| format!("namespaces: {error}"))
    }
}

/// The value of a secret.
pub(super) type Value = Secret;

/// A validated source.
#[derive(Debug)]
pub(super) enum Source {
    /// Read once, since the environment of the process does not change.
    Value(Secret),
    File(PathBuf),
}

impl Source {
    /// Validates a source.
    pub(super) fn open(
        name: &str,
        settings: &SecretSettings,
        environment: &[(OsString, OsString)],
    ) -> Result<Self, String> {
        match (&settings.env, &settings.file) {
            (Some(variable), None) => {
                let found = environment.iter().find(|(name, _)| name == variable.as_str());
                let Some((_, value)) = found else {
                    return Err(format!("the environment has no variable `{variable}`"));
                };
                let text = value.to_str().ok_or("it is not UTF-8")?;
                check(text)?;
                Ok(Self::Value(Secret::new(text)))
            }
            (None, Some(path)) => {
                look(name, path);
                Ok(Self::File(path.clone()))
            }
            (None, None) | (Some(_), Some(_)) => Err("set either `env` or `file`".to_owned()),
        }
    }

    /// Reads the current value. The error contains neither the value nor its location.
    pub(super) fn read(&self) -> Result<Value, String> {
        match self {
            Self::Value(value) => Ok(value.clone()),
            Self::File(path) => read(path),
        }
    }
}

/// Logs a warning at startup if the file is unreadable or too accessible.
fn look(name: &str, path: &Path) {
    match std::fs::metadata(path) {
        Ok(found) if found.mode() & 0o004 != 0 => {
            let path = path.display();
            tracing::warn!(secret = name, %path, "the file is readable by all users of this host");
        }
        Ok(_) => {}
        Err(error) => {
            let path = path.display();
            tracing::warn!(secret = name, %path, %error, "the secret's file is not readable yet");
        }
    }
}

fn read(path: &Path) -> Result<Secret, String> {
    // Opening a FIFO must not block.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).expect("invariant: flags are an int");
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = file.map_err(|error| error.to_string())?;
    if !file.metadata().map_err(|error| error.to_string())?.is_file() {
        return Err("it is not in a regular file".to_owned());
    }
    // With the final capacity, because growing would leave copies behind.
    let max = SECRET_BYTES_MAX + 3;
    let mut bytes = Zeroizing::new(Vec::with_capacity(max + 1));
    let max = u64::try_from(max).unwrap_or(u64::MAX);
    file.take(max).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    let text = std::str::from_utf8(&bytes).map_err(|_| "it is not UTF-8")?;
    let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    check(text)?;
    Ok(Secret::new(text))
}

fn check(text: &str) -> Result<(), String> {
    if text.len() < SECRET_BYTES_MIN {
        return Err(format!(
            "it is shorter than the {SECRET_BYTES_MIN} bytes that are needed to mask it"
        ));
    }
    if text.len() > SECRET_BYTES_MAX {
        return Err(format!("it has more than {SECRET_BYTES_MAX} bytes"));
    }
    if text.contains('\0') {
        return Err("it holds a NUL character".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_anew_each_time_without_its_last_line_break() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let settings = SecretSettings { file: Some(path.clone()), ..SecretSettings::default() };
        let source = Source::open("s", &settings, &[]).unwrap();
        assert!(source.read().unwrap_err().contains("No such file"));
        for (content, expected) in [
            ("first one\n", "first one"),
            ("second\none\r\n", "second\none"),
            ("12345678", "12345678"),
        ] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(source.read().unwrap().expose(), expected);
        }
    }

    #[test]
    fn what_cannot_be_masked_or_handed_on_is_refused_and_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        for (content, expected) in [
            (b"short12\n".to_vec(), "shorter than the 8 bytes"),
            (vec![b'x'; SECRET_BYTES_MAX + 1], "more than"),
            (vec![b'x'; 10 * SECRET_BYTES_MAX], "more than"),
            (b"12345678\0".to_vec(), "NUL"),
            (b"12345678\xff".to_vec(), "UTF-8"),
        ] {
            std::fs::write(&path, &content).unwrap();
            let refused = read(&path).unwrap_err();
            assert!(refused.contains(expected), "{refused}");
            assert!(!refused.contains("short12") && !refused.contains("12345678"));
        }
        assert!(read(dir.path()).unwrap_err().contains("regular file"));
    }

    #[test]
    fn a_variable_that_is_not_there_is_an_error_at_the_start() {
        let environment = [("A".into(), "value of a".into()), ("B".into(), "short".into())];
        let open = |name: &str| {
            let settings = SecretSettings { env: Some(name.into()), ..SecretSettings::default() };
            Source::open("s", &settings, &environment)
        };
        assert_eq!(open("A").unwrap().read().unwrap().expose(), "value of a");
        assert!(open("B").unwrap_err().contains("8 bytes"));
        assert!(open("C").unwrap_err().contains("`C`"));
    }

    #[test]
    fn a_secret_has_one_source_and_no_unknown_key() {
        let both = SecretSettings {
            env: Some("A".into()),
            file: Some("/a".into()),
            ..SecretSettings::default()
        };
        for settings in [both, SecretSettings::default()] {
            let refused = Source::open("s", &settings, &[]).unwrap_err();
            assert!(refused.contains("either `env` or `file`"), "{refused}");
        }
        let misspelt = r#"{"env": "A", "namespace": ["a"]}"#;
        assert!(serde_json::from_str::<SecretSettings>(misspelt).is_err());
    }

    #[test]
    fn namespaces_are_a_list_or_a_text_with_commas_and_never_none_at_all() {
        let allowed = |json: &str| serde_json::from_str::<SecretSettings>(json).unwrap().allowed();
        let both = ["a", "b"].map(|name| name.parse().unwrap());
        for json in [r#"{"namespaces": ["b", "a"]}"#, r#"{"namespaces": "a, b"}"#] {
            assert_eq!(allowed(json), Ok(Some(both.clone().into())));
        }
        assert_eq!(allowed("{}"), Ok(None));
        assert!(allowed(r#"{"namespaces": []}"#).unwrap_err().contains("empty"));
        assert!(allowed(r#"{"namespaces": ["a b"]}"#).unwrap_err().contains("`a b`"));
    }
}
