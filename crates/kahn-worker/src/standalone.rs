//! A worker that is a program of its own: configured from the environment, ended by a signal.

use std::time::Duration;

use kahn_runtime::config::{self, ConfigError, Environment, Sources};
use kahn_runtime::health::{HealthServer, Readiness};
use kahn_runtime::metrics::Metrics;
use kahn_runtime::shutdown::Shutdown;
use kahn_runtime::token::{Token, TokenError};
use tonic::transport::{Channel, Endpoint};

use crate::config::{Config, InvalidConfig};
use crate::worker::{Services, StartError, WorkerBuilder};

/// Sections of the file that belong to other programs.
const SECTIONS: [&str; 3] = ["coordinator", "worker", "telemetry"];

/// Why a worker could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A value of its configuration cannot be used.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// It has nothing to show the coordinator.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Config {
    /// Reads the section `[worker]` of `kahn.toml`, if that is in the current directory or named
    /// by `KAHN_CONFIG`, and the variables `KAHN_WORKER__…`, which win.
    ///
    /// # Errors
    ///
    /// When a value or a name in either is wrong.
    pub fn load() -> Result<Self, Box<ConfigError>> {
        let environment = Environment::from_process();
        let file = environment.get("KAHN_CONFIG").map(str::to_owned);
        let sources = Sources::new(&SECTIONS, environment);
        let sources = match file {
            Some(file) => sources.file(file),
            None => sources.file_if_present("kahn.toml"),
        };
        config::load("worker", &sources).map_err(Box::new)
    }

    /// The way to the coordinator; connected when it is first used, and again whenever it must be.
    ///
    /// # Errors
    ///
    /// When the address is not one.
    pub fn channel(&self) -> Result<Channel, InvalidConfig> {
        let endpoint = Endpoint::from_shared(self.coordinator.clone()).map_err(|error| {
            InvalidConfig::Coordinator { url: self.coordinator.clone(), reason: error.to_string() }
        })?;
        Ok(endpoint
            .connect_timeout(Duration::from_secs(5))
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(5))
            .keep_alive_timeout(Duration::from_secs(5))
            .keep_alive_while_idle(true)
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .connect_lazy())
    }

    /// What it shows the coordinator.
    ///
    /// # Errors
    ///
    /// When its file cannot be read.
    pub fn read_token(&self) -> Result<Token, TokenError> {
        match &self.token {
            Some(secret) => Token::from_secret(secret, "worker.token"),
            None => {
                let usual = || self.data_dir.join("worker.token");
                Token::from_file(&self.token_file.clone().unwrap_or_else(usual))
            }
        }
    }
}

impl WorkerBuilder {
    /// Runs the worker until SIGTERM or SIGINT, as [`WorkerBuilder::serve`] does, with the token of
    /// its configuration.
    ///
    /// # Errors
    ///
    /// [`RunError`] says what is in the way.
    pub async fn run(self) -> Result<(), RunError> {
        let shutdown =
            Shutdown::on_signals().map_err(|source| RunError::Io { what: "signals", source })?;
        let token = self.config().read_token()?;
        self.serve(token, &shutdown).await
    }

    /// Runs the worker until it is asked to drain, and then until it has finished what it holds,
    /// or is told to end at once. Serves health and metrics meanwhile.
    ///
    /// # Errors
    ///
    /// [`RunError`] says what is in the way.
    pub async fn serve(self, token: Token, shutdown: &Shutdown) -> Result<(), RunError> {
        let (metrics, readiness) = (Metrics::new(), Readiness::new());
        readiness.set("worker", Err("starting".to_owned()));
        let config = self.config();
        let health =
            HealthServer::start(&config.health, readiness.clone(), metrics.clone()).await.map_err(
                |error| RunError::Io { what: "health", source: std::io::Error::other(error) },
            )?;
        let channel = config.channel()?;
        let environment = std::env::vars_os().collect();
        let worker = self.start(channel, token, Services { metrics, readiness, environment })?;
        shutdown.drain_requested().await;
        worker.drain().await;
        tokio::select! {
            () = worker.finished() => {}
            () = shutdown.immediate_requested() => {}
        }
        health.stop().await;
        Ok(())
    }
}
