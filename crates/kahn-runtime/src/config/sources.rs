//! The sources of a configuration, and their precedence.
//!
//! Only variables named `KAHN_<SECTION>__…` are configuration. Names with single underscores are
//! ignored: Kubernetes sets variables such as `KAHN_COORDINATOR_PORT` for every service, and tasks
//! see variables such as `KAHN_RUN_ID`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::environment::Environment;
use super::known::{Known, advice};
use super::tree::{Content, Node};
use super::{ConfigError, Origin, file};

/// The variable that selects the profile.
const PROFILE_VARIABLE: &str = "KAHN_ENV";
/// The prefix of every configuration variable.
const PREFIX: &str = "KAHN_";
/// The separator between two levels in a variable's name.
const LEVEL: &str = "__";

/// The profile of the file that overrides the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// For development; the default.
    #[default]
    Development,
    /// For tests of a production setup.
    Staging,
    /// For production.
    Production,
}

impl Profile {
    const ALL: [Self; 3] = [Self::Development, Self::Staging, Self::Production];

    /// Returns the name used in `KAHN_ENV` and in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Staging => "staging",
            Self::Production => "production",
        }
    }

    pub(super) fn find(name: &str, full_name: &str, origin: &Origin) -> Result<Self, ConfigError> {
        Self::ALL.into_iter().find(|profile| profile.name() == name).ok_or_else(|| {
            ConfigError::Unknown {
                what: "profile",
                name: full_name.to_owned(),
                origin: origin.clone(),
                advice: advice(name, Self::ALL.map(Self::name), str::to_owned),
            }
        })
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// All sources that a configuration is read from.
///
/// ```
/// use kahn_runtime::config::{Environment, Sources};
///
/// let sources = Sources::new(&["coordinator", "worker"], Environment::from_process())
///     .file_if_present("kahn.toml")
///     .set("coordinator.listen", "--listen", "127.0.0.1:0");
/// ```
#[derive(Clone, Debug)]
pub struct Sources {
    sections: Vec<String>,
    file: Option<File>,
    environment: Environment,
    overrides: Vec<Override>,
}

#[derive(Clone, Debug)]
struct File {
    path: PathBuf,
    is_required: bool,
}

#[derive(Clone)]
struct Override {
    key: String,
    flag: String,
    value: String,
}

impl fmt::Debug for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {}", self.key, self.flag)
    }
}

impl Sources {
    /// Creates sources with defaults and environment. `sections` lists every section, of all
    /// components, that a file may contain.
    #[must_use]
    pub fn new(sections: &[&str], environment: Environment) -> Self {
        let sections = sections.iter().map(|&section| section.to_owned()).collect();
        Self { sections, file: None, environment, overrides: Vec::new() }
    }

    /// Adds a file that must exist, such as one named by the user.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(File { path: path.into(), is_required: true });
        self
    }

    /// Adds a file that may be absent, such as the default location.
    #[must_use]
    pub fn file_if_present(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(File { path: path.into(), is_required: false });
        self
    }

    /// Sets a dotted key (section first) with the highest precedence; errors name `flag`.
    #[must_use]
    pub fn set(mut self, key: &str, flag: &str, value: impl ToString) -> Self {
        let value = value.to_string();
        self.overrides.push(Override { key: key.to_owned(), flag: flag.to_owned(), value });
        self
    }

    /// Returns the profile that `KAHN_ENV` selects.
    ///
    /// # Errors
    ///
    /// Returns [`ConfigError::Unknown`] for a name that is not a profile.
    pub fn profile(&self) -> Result<Profile, ConfigError> {
        let origin = || Origin::Variable(PROFILE_VARIABLE.to_owned());
        self.environment
            .get(PROFILE_VARIABLE)
            .map_or(Ok(Profile::default()), |name| Profile::find(name, name, &origin()))
    }

    /// Returns the layers of one section, lowest precedence first.
    pub(super) fn layers(
        &self,
        section: &str,
        known: &Known<'_>,
    ) -> Result<Vec<Node>, ConfigError> {
        let profile = self.profile()?;
        let mut layers = Vec::new();
        if let Some(File { path, is_required }) = &self.file
            && let Some(text) = file::read(path, *is_required)?
        {
            let root = file::parse(path, &text)?;
            layers.extend(self.section_of_file(root, section, profile)?);
        }
        for (name, value) in self.environment.iter() {
            let Some((first, rest)) =
                name.strip_prefix(PREFIX).and_then(|name| name.split_once(LEVEL))
            else {
                continue;
            };
            let origin = Origin::Variable(name.to_owned());
            let found = first.to_lowercase();
            self.check_section(&found, &found, &origin)?;
            if found == section {
                let rest = rest.to_lowercase();
                layers.push(known.parse(&rest.split(LEVEL).collect::<Vec<_>>(), value, &origin));
            }
        }
        for Override { key, flag, value } in &self.overrides {
            let origin = Origin::Flag(flag.clone());
            let (found, rest) = key.split_once('.').unwrap_or((key, ""));
            self.check_section(found, found, &origin)?;
            if found == section {
                layers.push(known.parse(&rest.split('.').collect::<Vec<_>>(), value, &origin));
            }
        }
        Ok(layers)
    }

    /// Returns the section's table in the file, and its table in the profile.
    fn section_of_file(
        &self,
        root: Node,
        section: &str,
        profile: Profile,
    ) -> Result<Vec<Node>, ConfigError> {
        let mut tables = root.into_table();
        let profiles = tables.remove("profile").map(Node::into_table).unwrap_or_default();
        self.check_sections(&tables, "")?;
        let mut chosen = BTreeMap::new();
        for (name, node) in profiles {
            let full_name = format!("profile.{name}");
            let found = Profile::find(&name, &full_name, &node.origin)?;
            let tables = node.into_table();
            self.check_sections(&tables, &format!("{full_name}."))?;
            if found == profile {
                chosen = tables;
            }
        }
        Ok([tables.remove(section), chosen.remove(section)].into_iter().flatten().collect())
    }

    fn check_sections(
        &self,
        tables: &BTreeMap<String, Node>,
        prefix: &str,
    ) -> Result<(), ConfigError> {
        for (name, node) in tables {
            self.check_section(name, &format!("{prefix}{name}"), &node.origin)?;
            if !matches!(node.content, Content::Table(_)) {
                return Err(ConfigError::Malformed {
                    origin: node.origin.clone(),
                    message: format!("section `{prefix}{name}` is not a table"),
                });
            }
        }
        Ok(())
    }

    fn check_section(
        &self,
        name: &str,
        full_name: &str,
        origin: &Origin,
    ) -> Result<(), ConfigError> {
        if self.sections.iter().any(|section| section == name) {
            return Ok(());
        }
        Err(ConfigError::Unknown {
            what: "section",
            name: full_name.to_owned(),
            origin: origin.clone(),
            advice: advice(name, self.sections.iter().map(String::as_str), str::to_owned),
        })
    }
}
