//! The context of all commands: global flags, environment and access to the coordinator.

use std::path::{Path, PathBuf};

use clap::Args;
use kahn_client::{Client, ClientTls};
use kahn_runtime::config::{self, ConfigError, Environment, Sources};
use kahn_runtime::secret::Secret;
use kahn_runtime::service_manager::ServiceManager;
use kahn_runtime::shutdown::Shutdown;
use kahn_runtime::telemetry::{LOG_VARIABLE, Telemetry, TelemetrySettings};
use kahn_runtime::token::{Token, TokenError};

use crate::exit::Failure;
use crate::output::{self, Format};

/// Flags of every command.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Globals {
    /// Output format of results
    #[arg(long, global = true, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    pub output: Format,
    /// URL of the coordinator, or of several, separated by commas [or KAHN_COORDINATOR_URL; default:
    /// http://127.0.0.1:7400]
    #[arg(long, global = true, value_name = "URL")]
    pub coordinator: Option<String>,
    /// File with the token for the coordinator [or KAHN_TOKEN, KAHN_TOKEN_FILE; default:
    /// client.token in the data directory]
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// File with the certificates of the authorities of coordinators [or KAHN_CA_FILE; default: the
    /// authorities that this host trusts]
    #[arg(long, global = true, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// File with the certificate to show: to coordinators [or KAHN_CERT_FILE], or for `kahn
    /// coordinator` to everybody
    #[arg(long, global = true, value_name = "FILE")]
    pub cert_file: Option<PathBuf>,
    /// File with the private key of that certificate [or KAHN_KEY_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Directory for state on this host [or KAHN_DATA_DIR; default: ~/.local/state/kahn]
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Configuration file [or KAHN_CONFIG; default: kahn.toml if it exists]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// The global flags and the environment of the process.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    globals: Globals,
    environment: Environment,
}

/// The source of an explicitly given token.
#[derive(Clone, Debug)]
pub(crate) enum TokenSource {
    /// The value of the variable `KAHN_TOKEN`.
    Variable(Secret),
    /// A file.
    File(PathBuf),
}

impl TokenSource {
    /// Reads the token.
    pub(crate) fn read(&self) -> Result<Token, TokenError> {
        match self {
            Self::Variable(secret) => Token::from_secret(secret, "KAHN_TOKEN"),
            Self::File(path) => Token::from_file(path),
        }
    }
}

const SECTIONS: [&str; 4] = ["coordinator", "worker", "autoscaler", "telemetry"];
const DEFAULT_URL: &str = "http://127.0.0.1:7400";

impl Context {
    /// Creates a context from the global flags and the environment of this process.
    pub(crate) fn from_process(globals: Globals) -> Self {
        Self { globals, environment: Environment::from_process() }
    }

    #[cfg(test)]
    pub(crate) fn of(globals: Globals, environment: Environment) -> Self {
        Self { globals, environment }
    }

    /// Returns whether results are printed as JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.globals.output == Format::Json
    }

    /// Returns the value of an environment variable; an empty one counts as unset.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name)
    }

    /// Returns the URL of the coordinator.
    pub(crate) fn url(&self) -> &str {
        self.given_url().unwrap_or(DEFAULT_URL)
    }

    /// Returns the URL of the coordinator if given explicitly.
    pub(crate) fn given_url(&self) -> Option<&str> {
        self.globals.coordinator.as_deref().or(self.environment.get("KAHN_COORDINATOR_URL"))
    }

    /// Returns the files for TLS that were given explicitly.
    pub(crate) fn tls(&self) -> ClientTls {
        let file = |flag: &Option<PathBuf>, name| {
            flag.clone().or_else(|| self.variable(name).map(PathBuf::from))
        };
        ClientTls {
            ca_file: file(&self.globals.ca_file, "KAHN_CA_FILE"),
            cert_file: file(&self.globals.cert_file, "KAHN_CERT_FILE"),
            key_file: file(&self.globals.key_file, "KAHN_KEY_FILE"),
        }
    }

    /// Returns the files for TLS that were given with flags.
    pub(crate) fn tls_flags(&self) -> [(&'static str, &'static str, Option<&Path>); 3] {
        [
            ("ca_file", "--ca-file", self.globals.ca_file.as_deref()),
            ("cert_file", "--cert-file", self.globals.cert_file.as_deref()),
            ("key_file", "--key-file", self.globals.key_file.as_deref()),
        ]
    }

    /// Returns the data directory.
    pub(crate) fn data_dir(&self) -> PathBuf {
        if let Some(dir) = self.given_data_dir() {
            return dir;
        }
        if let Some(state) = self.environment.get("XDG_STATE_HOME") {
            return Path::new(state).join("kahn");
        }
        let home = self.environment.get("HOME").unwrap_or(".");
        Path::new(home).join(".local/state/kahn")
    }

    /// Returns the data directory if given explicitly.
    pub(crate) fn given_data_dir(&self) -> Option<PathBuf> {
        let from_environment = || self.environment.get("KAHN_DATA_DIR").map(PathBuf::from);
        self.globals.data_dir.clone().or_else(from_environment)
    }

    /// Returns the configuration layers without the flags of a command.
    pub(crate) fn sources(&self) -> Sources {
        let sources = Sources::new(&SECTIONS, self.environment.clone());
        match self.globals.config.as_deref().or(self.variable("KAHN_CONFIG").map(Path::new)) {
            Some(file) => sources.file(file),
            None => sources.file_if_present("kahn.toml"),
        }
    }

    /// Returns the token file to use without `KAHN_TOKEN`, and whether it was given explicitly.
    pub(crate) fn token_file(&self) -> (PathBuf, bool) {
        let from_environment = || self.variable("KAHN_TOKEN_FILE").map(PathBuf::from);
        match self.globals.token_file.clone().or_else(from_environment) {
            Some(file) => (file, true),
            None => (self.data_dir().join("client.token"), false),
        }
    }

    /// Returns whether `--token-file` was given.
    pub(crate) fn has_token_flag(&self) -> bool {
        self.globals.token_file.is_some()
    }

    /// Returns the source of the token if given explicitly.
    pub(crate) fn token_source(&self) -> Option<TokenSource> {
        if self.globals.token_file.is_none()
            && let Some(text) = self.variable("KAHN_TOKEN")
        {
            return Some(TokenSource::Variable(Secret::new(text)));
        }
        let (path, is_given) = self.token_file();
        is_given.then_some(TokenSource::File(path))
    }

    /// Reads the token for the coordinator, if there is one.
    pub(crate) fn token(&self) -> Result<Option<Token>, Failure> {
        let usual = || {
            let (path, _) = self.token_file();
            path.exists().then_some(TokenSource::File(path))
        };
        let source = self.token_source().or_else(usual);
        Ok(source.map(|source| source.read()).transpose()?)
    }

    /// Returns the service manager that started this process, if there is one.
    pub(crate) fn service_manager(&self) -> ServiceManager {
        ServiceManager::of_environment(&self.environment)
    }

    /// Starts logging to stderr, at level `usual` unless KAHN_LOG or the configuration sets
    /// another.
    pub(crate) fn telemetry(&self, usual: &str) -> Result<Telemetry, Failure> {
        let settings: TelemetrySettings = config::load("telemetry", &self.sources())?;
        let is_set = settings.log != TelemetrySettings::default().log;
        let filter = self.variable(LOG_VARIABLE).or((!is_set).then_some(usual));
        Telemetry::start("kahn", &settings, filter)
            .map_err(|error| Failure::bad_input(error.to_string()))
    }

    /// Stops logging. Telemetry that cannot be sent is dropped.
    pub(crate) async fn flush(&self, telemetry: Telemetry) {
        if let Err(error) = telemetry.shutdown().await {
            output::note(&error.to_string());
        }
    }

    /// Installs handlers that turn SIGTERM and SIGINT into shutdown requests.
    pub(crate) fn shutdown(&self) -> Result<Shutdown, Failure> {
        Shutdown::on_signals()
            .map_err(|error| Failure::refused(format!("cannot listen for signals: {error}")))
    }

    /// Connects to the coordinator.
    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        let token = self.token()?;
        let token = token.as_ref().map(Token::expose);
        Ok(Client::connect_with_tls(self.url(), token, self.tls()).await?)
    }
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        Self::refused(error.to_string())
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::bad_input(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Context {
        Context::of(Globals::default(), Environment::from_pairs(pairs))
    }

    #[test]
    fn the_data_directory_is_the_first_that_is_named() {
        let home = ("HOME", "/home/a");
        let state = ("XDG_STATE_HOME", "/state");
        let own = ("KAHN_DATA_DIR", "/own");
        assert_eq!(context([home]).data_dir(), Path::new("/home/a/.local/state/kahn"));
        assert_eq!(context([home, state]).data_dir(), Path::new("/state/kahn"));
        assert_eq!(context([home, state, own]).data_dir(), Path::new("/own"));
        let globals = Globals { data_dir: Some("/flag".into()), ..Globals::default() };
        let context = Context::of(globals, Environment::from_pairs([own]));
        assert_eq!(context.data_dir(), Path::new("/flag"));
    }

    #[test]
    fn the_coordinator_is_on_this_machine_unless_named() {
        assert_eq!(context([]).url(), "http://127.0.0.1:7400");
        assert_eq!(context([("KAHN_COORDINATOR_URL", "http://c:1")]).url(), "http://c:1");
        assert_eq!(context([("KAHN_COORDINATOR_URL", "")]).given_url(), None);
    }

    #[test]
    fn a_token_file_that_was_named_must_be_there() {
        let named = context([("KAHN_TOKEN_FILE", "/nowhere/token")]);
        assert!(named.token().is_err());
        assert!(context([("KAHN_DATA_DIR", "/nowhere")]).token().unwrap().is_none());
    }
}
