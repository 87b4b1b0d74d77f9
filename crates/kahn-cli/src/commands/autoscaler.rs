//! `kahn autoscaler`: tells Kubernetes how many workers a cluster needs.

use std::net::SocketAddr;

use clap::Args;
use kahn_autoscaler::{Autoscaler, Config, Coordinators};
use kahn_runtime::certificates::CertificateWatch;
use kahn_runtime::config;
use kahn_runtime::health::{HealthServer, Readiness};
use kahn_runtime::metrics::Metrics;
use serde_json::json;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output;

/// Arguments of `autoscaler`; they override the configuration.
#[derive(Debug, Default, Args)]
pub(crate) struct AutoscalerArgs {
    /// Address to serve KEDA on [default: 127.0.0.1:7403]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Address to serve health and metrics on [default: 127.0.0.1:7404]
    #[arg(long, value_name = "ADDRESS")]
    health_listen: Option<SocketAddr>,
    /// Listen without TLS on an address that other hosts can reach
    #[arg(long)]
    insecure: bool,
}

/// Reads the configuration, with flags taking precedence.
pub(crate) fn load(args: &AutoscalerArgs, context: &Context) -> Result<Config, Failure> {
    let mut sources = context.sources();
    if let Some(address) = args.listen {
        sources = sources.set("autoscaler.listen", "--listen", address);
    }
    if let Some(address) = args.health_listen {
        sources = sources.set("autoscaler.health.listen", "--health-listen", address);
    }
    if args.insecure {
        sources = sources.set("autoscaler.insecure", "--insecure", true);
    }
    Ok(config::load("autoscaler", &sources)?)
}

pub(crate) async fn run(args: AutoscalerArgs, context: &Context) -> Result<Exit, Failure> {
    let config = load(&args, context)?;
    let telemetry = context.telemetry("info")?;
    let shutdown = context.shutdown()?;
    let (metrics, readiness) = (Metrics::of_process(), Readiness::new());
    readiness.set("coordinator", Err("not asked yet".to_owned()));
    let refused = |error: String| Failure::refused(error);
    let health = HealthServer::start(&config.health, readiness.clone(), metrics.clone())
        .await
        .map_err(|error| refused(error.to_string()))?;
    let _watch = CertificateWatch::start(
        &metrics,
        [("server", config.tls.cert_file.as_ref()), ("health", config.health.cert_file.as_ref())],
    );
    let coordinators = Coordinators {
        urls: context.url().to_owned(),
        token: context.token()?,
        tls: context.tls(),
    };
    let autoscaler = Autoscaler::start(&config, coordinators, readiness)
        .map_err(|error| refused(error.to_string()))?;
    let (url, health_address) = (autoscaler.url(), health.address());
    match context.is_json() {
        true => output::json(&json!({ "url": url, "health": health_address.to_string() }))?,
        false => output::note(&format!("autoscaler at {url}, health at {health_address}")),
    }
    let manager = context.service_manager();
    manager.ready();
    let _watchdog = manager.watch(|| async {});
    shutdown.drain_requested().await;
    manager.stopping();
    tokio::select! {
        () = autoscaler.stop() => {}
        () = shutdown.immediate_requested() => {}
    }
    health.stop().await;
    context.flush(telemetry).await;
    Ok(Exit::Success)
}
