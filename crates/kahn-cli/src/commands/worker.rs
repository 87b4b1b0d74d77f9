//! `kahn worker`: serves as a worker of a cluster.

use clap::Args;
use kahn_net::ClientTls;
use kahn_runtime::config;
use kahn_runtime::token::Token;
use kahn_worker::{Config, RunError, Worker};

use crate::context::{Context, TokenSource};
use crate::dag_file::pair;
use crate::exit::{Exit, Failure};
use crate::output;

/// Arguments of `worker`; they override the configuration.
#[derive(Debug, Default, Args)]
pub(crate) struct WorkerArgs {
    /// Name of the worker, stable across restarts [default: the host name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Total resources of running tasks, such as cpu=2,memory=4Gi [default: those of this host]
    #[arg(long, value_name = "AMOUNTS")]
    capacity: Option<String>,
    /// Pool that the worker belongs to
    #[arg(long, value_name = "POOL")]
    pool: Option<String>,
    /// Label that tasks can require; can be repeated
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// Address to serve health and metrics on [default: 127.0.0.1:7402]
    #[arg(long, value_name = "ADDRESS")]
    health_listen: Option<std::net::SocketAddr>,
}

/// Reads the configuration, with flags taking precedence. The data directory defaults to that of
/// the user.
pub(crate) fn load(args: &WorkerArgs, context: &Context) -> Result<Config, Failure> {
    let mut config = load_section(args, context)?;
    if let Some(TokenSource::File(path)) = shared_token(&config, context) {
        config.token_file = Some(path);
    }
    Ok(config)
}

/// Reads the section `[worker]` with the flags applied, without the global token settings.
fn load_section(args: &WorkerArgs, context: &Context) -> Result<Config, Failure> {
    let mut sources = context.sources();
    if let Some(dir) = context.given_data_dir() {
        sources = sources.set("worker.data_dir", "--data-dir", dir.display());
    }
    if let Some(url) = context.given_url() {
        sources = sources.set("worker.coordinator", "--coordinator", url);
    }
    for (key, flag, file) in context.tls_flags() {
        if let Some(file) = file {
            sources = sources.set(&format!("worker.tls.{key}"), flag, file.display());
        }
    }
    if let Some(name) = &args.name {
        sources = sources.set("worker.name", "--name", name);
    }
    if let Some(capacity) = &args.capacity {
        sources = sources.set("worker.capacity", "--capacity", capacity);
    }
    if let Some(pool) = &args.pool {
        sources = sources.set("worker.pool", "--pool", pool);
    }
    if let Some(address) = args.health_listen {
        sources = sources.set("worker.health.listen", "--health-listen", address);
    }
    let mut config: Config = config::load("worker", &sources)?;
    config.labels.extend(args.labels.iter().cloned());
    config.tls = tls(config.tls, context.tls());
    if config.data_dir == Config::default().data_dir {
        config.data_dir = context.data_dir();
    }
    Ok(config)
}

pub(crate) async fn run(args: WorkerArgs, context: &Context) -> Result<Exit, Failure> {
    let config = load_section(&args, context)?;
    if has_own_token(&config) && context.has_token_flag() {
        output::note("--token-file is not used: worker.token or worker.token_file is set");
    }
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

/// Returns the global token source, unless the worker's own settings specify a token. These take
/// precedence, because other commands use the token of a client.
fn shared_token(config: &Config, context: &Context) -> Option<TokenSource> {
    if has_own_token(config) { None } else { context.token_source() }
}

/// Returns the files for TLS of the worker, with those of clients for what is not set.
fn tls(own: ClientTls, shared: ClientTls) -> ClientTls {
    // A certificate and its key belong together.
    let has_certificate = own.cert_file.is_some() || own.key_file.is_some();
    let (cert_file, key_file) = match has_certificate {
        true => (own.cert_file, own.key_file),
        false => (shared.cert_file, shared.key_file),
    };
    ClientTls { ca_file: own.ca_file.or(shared.ca_file), cert_file, key_file }
}

fn has_own_token(config: &Config) -> bool {
    config.token.is_some() || config.token_file.is_some()
}

/// Reads the token for the coordinator.
fn token(config: &Config, context: &Context) -> Result<Token, Failure> {
    let token = match shared_token(config, context) {
        Some(source) => source.read(),
        None => config.read_token(),
    };
    token.map_err(|error| {
        Failure::from(error).advise(
            "let worker.token_file or KAHN_WORKER__TOKEN_FILE name the file `worker.token` of the \
             coordinator",
        )
    })
}

#[cfg(test)]
mod tests {
    use kahn_runtime::config::Environment;

    use super::*;
    use crate::context::Globals;

    /// Returns the origin of a worker's token, given its environment and `--token-file`.
    fn origin(environment: &[(&str, &str)], flag: Option<&str>) -> String {
        let globals = Globals { token_file: flag.map(Into::into), ..Globals::default() };
        let pairs = environment.iter().copied().chain([("KAHN_CONFIG", "/dev/null")]);
        let context = Context::of(globals, Environment::from_pairs(pairs));
        let config = load_section(&WorkerArgs::default(), &context).unwrap();
        token(&config, &context).unwrap().origin().to_owned()
    }

    #[test]
    fn the_workers_own_token_goes_before_the_one_that_clients_show() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = dir.path().join(name);
            Token::from_file_or_generate(&path).unwrap();
            path.display().to_string()
        };
        let (own, clients, usual) = (file("own"), file("clients"), file("worker.token"));
        let is_from = |file: &str| format!("file {file}");
        let text = "x".repeat(40);
        let data_dir = ("KAHN_DATA_DIR", dir.path().to_str().unwrap());
        let clients_file = ("KAHN_TOKEN_FILE", clients.as_str());
        let clients_text = ("KAHN_TOKEN", text.as_str());
        let own_file = ("KAHN_WORKER__TOKEN_FILE", own.as_str());

        assert_eq!(origin(&[own_file, clients_file], None), is_from(&own));
        assert_eq!(origin(&[own_file, clients_text], None), is_from(&own));
        assert_eq!(origin(&[own_file], Some(&clients)), is_from(&own));
        let own_text = ("KAHN_WORKER__TOKEN", text.as_str());
        assert_eq!(origin(&[own_text, clients_file], Some(&clients)), "worker.token");

        assert_eq!(origin(&[data_dir, clients_file], None), is_from(&clients));
        assert_eq!(origin(&[data_dir, clients_text, clients_file], None), "KAHN_TOKEN");
        assert_eq!(origin(&[data_dir, clients_text], Some(&clients)), is_from(&clients));
        assert_eq!(origin(&[data_dir], None), is_from(&usual));
    }

    #[test]
    fn the_configuration_in_force_names_the_file_that_the_token_is_read_from() {
        let in_force = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().copied().chain([("KAHN_CONFIG", "/dev/null")]);
            let context = Context::of(Globals::default(), Environment::from_pairs(pairs));
            load(&WorkerArgs::default(), &context).unwrap().token_file.unwrap()
        };
        let clients = ("KAHN_TOKEN_FILE", "/clients");
        assert_eq!(in_force(&[clients]), std::path::Path::new("/clients"));
        let own = ("KAHN_WORKER__TOKEN_FILE", "/own");
        assert_eq!(in_force(&[clients, own]), std::path::Path::new("/own"));
    }
}
