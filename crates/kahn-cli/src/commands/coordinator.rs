//! `kahn coordinator`: serves as the coordinator of a cluster.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use kahn_coordinator::{Config, Coordinator, Listener, Services};
use kahn_runtime::certificates::CertificateWatch;
use kahn_runtime::config::{self, Sources};
use kahn_runtime::health::{HealthServer, Readiness};
use kahn_runtime::metrics::Metrics;
use serde_json::json;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output;

/// Arguments of `coordinator`; they override the configuration.
#[derive(Debug, Default, Args)]
pub(crate) struct CoordinatorArgs {
    /// Address to serve gRPC on [default: 127.0.0.1:7400]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Address to serve health and metrics on [default: 127.0.0.1:7401]
    #[arg(long, value_name = "ADDRESS")]
    health_listen: Option<SocketAddr>,
    /// Store for the state of runs: embedded, memory, or the URL of Redis, such as redis://host or
    /// redis+sentinel://host/master [default: embedded]
    #[arg(long, value_name = "STORE")]
    store: Option<String>,
    /// Crash that acknowledged changes in the embedded store survive: process, or disk for the host
    #[arg(long, value_name = "LEVEL")]
    durability: Option<String>,
    /// File with the certificates of the authorities of clients and workers, which then have to show
    /// a certificate
    #[arg(long, value_name = "FILE")]
    client_ca_file: Option<PathBuf>,
    /// Listen without TLS on an address that other hosts can reach
    #[arg(long)]
    insecure: bool,
    /// Accept a Redis server whose settings can lose acknowledged changes
    #[arg(long)]
    allow_unsafe_redis: bool,
}

impl CoordinatorArgs {
    /// Returns the arguments of a command that only uses the store.
    pub(crate) fn of_store(store: Option<String>, allow_unsafe_redis: bool) -> Self {
        Self { store, allow_unsafe_redis, ..Self::default() }
    }
}

/// Reads the configuration, with flags taking precedence. The data directory defaults to that of
/// the user.
pub(crate) fn load(args: &CoordinatorArgs, context: &Context) -> Result<Config, Failure> {
    load_from(context.sources(), args, context)
}

/// Reads the configuration of the coordinator to start. The global flags for TLS are its own ones
/// here, and those of a client in other commands.
fn load_to_run(args: &CoordinatorArgs, context: &Context) -> Result<Config, Failure> {
    let mut sources = context.sources();
    for (key, flag, file) in context.tls_flags() {
        if let Some(file) = file {
            sources = sources.set(&format!("coordinator.tls.{key}"), flag, file.display());
        }
    }
    load_from(sources, args, context)
}

fn load_from(
    mut sources: Sources,
    args: &CoordinatorArgs,
    context: &Context,
) -> Result<Config, Failure> {
    if let Some(dir) = context.given_data_dir() {
        sources = sources.set("coordinator.data_dir", "--data-dir", dir.display());
    }
    if let Some(address) = args.listen {
        sources = sources.set("coordinator.listen", "--listen", address);
    }
    if let Some(address) = args.health_listen {
        sources = sources.set("coordinator.health.listen", "--health-listen", address);
    }
    if let Some(store) = &args.store {
        sources = sources.set("coordinator.store.url", "--store", store);
    }
    if let Some(level) = &args.durability {
        sources = sources.set("coordinator.store.durability", "--durability", level);
    }
    if args.allow_unsafe_redis {
        sources = sources.set("coordinator.store.allow_unsafe_redis", "--allow-unsafe-redis", true);
    }
    if let Some(file) = &args.client_ca_file {
        sources = sources.set("coordinator.tls.client_ca_file", "--client-ca-file", file.display());
    }
    if args.insecure {
        sources = sources.set("coordinator.insecure", "--insecure", true);
    }
    let mut config: Config = config::load("coordinator", &sources)?;
    if config.data_dir == Config::default().data_dir {
        config.data_dir = context.data_dir();
    }
    Ok(config)
}

pub(crate) async fn run(args: CoordinatorArgs, context: &Context) -> Result<Exit, Failure> {
    let config = load_to_run(&args, context)?;
    let telemetry = context.telemetry("info")?;
    let shutdown = context.shutdown()?;
    let (metrics, readiness) = (Metrics::of_process(), Readiness::new());
    for check in ["store", "coordinator"] {
        readiness.set(check, Err("starting".to_owned()));
    }
    let health = HealthServer::start(&config.health, readiness.clone(), metrics.clone())
        .await
        .map_err(|error| Failure::refused(error.to_string()))?;
    let listener =
        Listener::bind(&config).await.map_err(|error| Failure::refused(error.to_string()))?;
    let _watch = CertificateWatch::start(
        &metrics,
        [("server", config.tls.cert_file.as_ref()), ("health", config.health.cert_file.as_ref())],
    );
    let services = Services { metrics, readiness, traces: telemetry.traces() };
    let started = Coordinator::start(config, listener, services).await;
    let mut coordinator = started.map_err(|error| Failure::refused(error.to_string()))?;
    announce(context, &coordinator, &health)?;
    let manager = context.service_manager();
    manager.ready();
    let probe = coordinator.probe();
    let _watchdog = manager.watch(move || {
        let probe = probe.clone();
        async move { probe.answered().await }
    });
    let has_failed = tokio::select! {
        () = shutdown.drain_requested() => false,
        () = coordinator.ended() => true,
    };
    manager.stopping();
    tokio::select! {
        () = coordinator.stop() => {}
        () = shutdown.immediate_requested() => {}
    }
    health.stop().await;
    context.flush(telemetry).await;
    match has_failed {
        true => Err(Failure::refused("the coordinator cannot go on; its log says why")),
        false => Ok(Exit::Success),
    }
}

/// Prints the actual addresses, because the port may have been chosen by the system.
fn announce(
    context: &Context,
    coordinator: &Coordinator,
    health: &HealthServer,
) -> Result<(), Failure> {
    let Some(url) = coordinator.url() else { return Ok(()) };
    if context.is_json() {
        return output::json(&json!({ "url": url, "health": health.address().to_string() }));
    }
    output::note(&format!("coordinator at {url}, health at {}", health.address()));
    Ok(())
}
