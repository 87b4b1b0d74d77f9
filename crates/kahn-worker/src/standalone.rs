//! A standalone worker: configured from the environment, stopped by a signal.

use kahn_net::Addresses;
use kahn_runtime::certificates::CertificateWatch;
use kahn_runtime::config::{self, ConfigError, Environment, Sources};
use kahn_runtime::health::{HealthServer, Readiness};
use kahn_runtime::metrics::Metrics;
use kahn_runtime::service_manager::ServiceManager;
use kahn_runtime::shutdown::Shutdown;
use kahn_runtime::token::{Token, TokenError};

use crate::config::{Config, InvalidConfig};
use crate::link::Coordinators;
use crate::worker::{Services, StartError, WorkerBuilder};

/// All sections that the configuration file may have, including those of other programs.
const SECTIONS: [&str; 4] = ["coordinator", "worker", "autoscaler", "telemetry"];

/// The reason that a worker could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The worker did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A configuration value is invalid.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// The token for the coordinator could not be read.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A system call failed.
    #[error("{what}: {source}")]
    Io {
        /// The operation.
        what: &'static str,
        /// The OS error.
        source: std::io::Error,
    },
}

impl Config {
    /// Reads the section `[worker]` of the file that `KAHN_CONFIG` names, or of `kahn.toml` in the
    /// current directory if it exists. Variables `KAHN_WORKER__…` take precedence over the file.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read, or if a key or value is invalid.
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

    /// Returns the addresses of the coordinators.
    ///
    /// # Errors
    ///
    /// Fails if a URL is invalid, or a file for TLS cannot be used.
    pub fn coordinators(&self) -> Result<Coordinators, InvalidConfig> {
        let addresses = Addresses::parse(&self.coordinator).map_err(InvalidConfig::Coordinator)?;
        let addresses = addresses.with_tls(self.tls.clone());
        addresses.check_files()?;
        Ok(Coordinators::at(addresses))
    }

    /// Reads the token for the coordinator.
    ///
    /// # Errors
    ///
    /// Fails if the token is invalid or its file cannot be read.
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
    /// Runs the worker until SIGTERM or SIGINT, like [`WorkerBuilder::serve`], with the configured
    /// token.
    ///
    /// # Errors
    ///
    /// Returns a [`RunError`] if the worker cannot start.
    pub async fn run(self) -> Result<(), RunError> {
        let shutdown =
            Shutdown::on_signals().map_err(|source| RunError::Io { what: "signals", source })?;
        let token = self.config().read_token()?;
        self.serve(token, &shutdown).await
    }

    /// Runs the worker until a drain is requested, and then until it has drained or an immediate
    /// shutdown is requested. Serves health and metrics meanwhile.
    ///
    /// # Errors
    ///
    /// Returns a [`RunError`] if the worker cannot start.
    pub async fn serve(self, token: Token, shutdown: &Shutdown) -> Result<(), RunError> {
        let (metrics, readiness) = (Metrics::of_process(), Readiness::new());
        readiness.set("worker", Err("starting".to_owned()));
        let config = self.config();
        let health =
            HealthServer::start(&config.health, readiness.clone(), metrics.clone()).await.map_err(
                |error| RunError::Io { what: "health", source: std::io::Error::other(error) },
            )?;
        let coordinators = config.coordinators()?;
        let _watch = CertificateWatch::start(
            &metrics,
            [
                ("client", config.tls.cert_file.as_ref()),
                ("health", config.health.cert_file.as_ref()),
            ],
        );
        let environment = std::env::vars_os().collect();
        let worker =
            self.start(coordinators, token, Services { metrics, readiness, environment })?;
        let manager = ServiceManager::of_environment(&Environment::from_process());
        manager.ready();
        let probe = worker.probe();
        let _watchdog = manager.watch(move || {
            let probe = probe.clone();
            async move { probe.answered().await }
        });
        shutdown.drain_requested().await;
        manager.stopping();
        worker.drain().await;
        tokio::select! {
            () = worker.finished() => {}
            () = shutdown.immediate_requested() => {}
        }
        health.stop().await;
        Ok(())
    }
}
