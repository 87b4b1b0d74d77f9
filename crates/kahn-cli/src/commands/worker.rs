//! `kahn worker`: serves as a worker of a cluster.

use clap::Args;
use kahn_runtime::config;
use kahn_runtime::token::Token;
use kahn_worker::{Config, RunError, Worker};

use crate::context::Context;
use crate::dag_file::pair;
use crate::exit::{Exit, Failure};

/// Arguments of `worker`; they go before the configuration.
#[derive(Debug, Default, Args)]
pub(crate) struct WorkerArgs {
    /// What it calls itself, stable over restarts [default: the name of the host]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// What tasks may use together, such as cpu=2,memory=4Gi [default: all of this machine]
    #[arg(long, value_name = "AMOUNTS")]
    capacity: Option<String>,
    /// What it says of itself, for tasks to ask for; as often as needed
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// Where health and metrics are served [default: 127.0.0.1:7402]
    #[arg(long, value_name = "ADDRESS")]
    health_listen: Option<std::net::SocketAddr>,
}

/// The configuration, with flags over all else. The data directory is that of the user, unless
/// somebody named another.
pub(crate) fn load(args: &WorkerArgs, context: &Context) -> Result<Config, Failure> {
    let mut sources = context.sources();
    if let Some(dir) = context.given_data_dir() {
        sources = sources.set("worker.data_dir", "--data-dir", dir.display());
    }
    if let Some(url) = context.given_url() {
        sources = sources.set("worker.coordinator", "--coordinator", url);
    }
    if let (file, true) = context.token_file() {
        sources = sources.set("worker.token_file", "--token-file", file.display());
    }
    if let Some(name) = &args.name {
        sources = sources.set("worker.name", "--name", name);
    }
    if let Some(capacity) = &args.capacity {
        sources = sources.set("worker.capacity", "--capacity", capacity);
    }
    if let Some(address) = args.health_listen {
        sources = sources.set("worker.health.listen", "--health-listen", address);
    }
    let mut config: Config = config::load("worker", &sources)?;
    config.labels.extend(args.labels.iter().cloned());
    if config.data_dir == Config::default().data_dir {
        config.data_dir = context.data_dir();
    }
    Ok(config)
}

pub(crate) async fn run(args: WorkerArgs, context: &Context) -> Result<Exit, Failure> {
    let config = load(&args, context)?;
    let telemetry = context.telemetry("info")?;
    let shutdown = context.shutdown()?;
    let token = token(&config, context)?;
    let served = Worker::builder(config).serve(token, &shutdown).await;
    context.flush(telemetry).await;
    match served {
        Ok(()) => Ok(Exit::Success),
        Err(error @ RunError::Io { .. }) => Err(Failure::refused(error.to_string())),
        Err(error) => Err(Failure::bad_input(error.to_string())),
    }
}

/// What it shows the coordinator.
fn token(config: &Config, context: &Context) -> Result<Token, Failure> {
    if let Some(secret) = &config.token {
        return Ok(Token::from_secret(secret, "worker.token")?);
    }
    if let Some(text) = context.variable("KAHN_TOKEN") {
        return Ok(Token::from_secret(&kahn_runtime::secret::Secret::new(text), "KAHN_TOKEN")?);
    }
    let usual = || config.data_dir.join("worker.token");
    let file = config.token_file.clone().unwrap_or_else(usual);
    Token::from_file(&file).map_err(|error| {
        Failure::from(error)
            .advise("give it the file `worker.token` of the coordinator with --token-file")
    })
}
