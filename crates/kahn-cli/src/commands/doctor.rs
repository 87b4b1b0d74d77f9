//! `kahn doctor`: checks the setup on this host and advises how to fix problems.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use kahn_coordinator::Config;
use kahn_model::Timestamp;
use kahn_runtime::clock::Clock;
use kahn_runtime::secret::mask_url_password;
use kahn_runtime::token::{Token, TokenError};
use kahn_store::{ClusterId, ClusterMeta, RedisStore};
use kahn_worker::{LimitMode, LimitStatement};
use serde::Serialize;

use super::coordinator::{self, CoordinatorArgs};
use super::worker::{self, WorkerArgs};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::render::text;

/// A larger difference from the coordinator's clock makes displayed times confusing.
const CLOCKS_APART_MAX: Duration = Duration::from_secs(5);
/// 2025-01-01: a correct clock is never earlier.
const EARLIEST: Timestamp = Timestamp(1_735_689_600_000_000);

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Ok,
    /// Not used or missing, which may be intended.
    Skipped,
    Warning,
    Failed,
}

/// A check; the fields are stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Check {
    check: &'static str,
    status: Status,
    detail: String,
    advice: Option<String>,
}

impl Check {
    fn new(check: &'static str, status: Status, detail: impl Into<String>) -> Self {
        Self { check, status, detail: detail.into(), advice: None }
    }

    fn advise(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }

    fn line(&self) -> String {
        let word = match self.status {
            Status::Ok => "ok",
            Status::Skipped => "-",
            Status::Warning => "warning",
            Status::Failed => "FAILED",
        };
        let mut line = format!("{word:<8} {:<14} {}\n", self.check, text::safe(&self.detail));
        if let Some(advice) = &self.advice {
            line.push_str(&format!("{:24}{}\n", "", text::safe(advice)));
        }
        line
    }
}

pub(crate) async fn run(context: &Context) -> Result<Exit, Failure> {
    let mut checks = Vec::new();
    let config = match coordinator::load(&CoordinatorArgs::default(), context) {
        Ok(config) => {
            checks.push(check_config(&config));
            Some(config)
        }
        Err(Failure::Said { message, .. }) => {
            checks.push(Check::new("configuration", Status::Failed, message));
            None
        }
        Err(other) => return Err(other),
    };
    let data_dir = context.data_dir();
    checks.push(check_data_dir(&data_dir));
    checks.push(check_limits(context));
    let (client_token, _) = context.token_file();
    checks.push(check_token("client token", &client_token));
    checks.push(check_token("worker token", &data_dir.join("worker.token")));
    if let Some(config) = &config {
        checks.push(check_redis(config).await);
        checks.push(check_blobs(config).await);
    }
    checks.extend(check_coordinator(context).await);
    let worst = checks.iter().map(|check| check.status).max().unwrap_or(Status::Ok);
    match context.is_json() {
        true => output::json_lines(checks.iter())?,
        false => output::text(&checks.iter().map(Check::line).collect::<String>())?,
    }
    Ok(if worst == Status::Failed { Exit::Refused } else { Exit::Success })
}

fn check_config(config: &Config) -> Check {
    match config.settings() {
        Ok(_) => Check::new("configuration", Status::Ok, "valid"),
        Err(error) => Check::new("configuration", Status::Failed, error.to_string()),
    }
}

fn check_data_dir(dir: &Path) -> Check {
    let check = |status, detail: String| Check::new("data directory", status, detail);
    let shown = dir.display();
    let metadata = match std::fs::metadata(dir) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return check(Status::Skipped, format!("{shown} is created when needed"));
        }
        Err(error) => return check(Status::Failed, format!("{shown}: {error}")),
    };
    if !metadata.is_dir() {
        return check(Status::Failed, format!("{shown} is not a directory"));
    }
    let probe = dir.join(".doctor");
    if let Err(error) = std::fs::write(&probe, b"").and_then(|()| std::fs::remove_file(&probe)) {
        return check(Status::Failed, format!("{shown} is not writable: {error}"))
            .advise("choose another with --data-dir or KAHN_DATA_DIR");
    }
    match metadata.mode() & 0o077 {
        0 => check(Status::Ok, format!("{shown} is writable")),
        _ => check(Status::Warning, format!("{shown} is accessible to other users"))
            .advise(format!("restrict it with: chmod 700 {shown}")),
    }
}

/// Checks how a worker on this host would enforce the limits of attempts.
fn check_limits(context: &Context) -> Check {
    let config = match worker::load(&WorkerArgs::default(), context) {
        Ok(config) => config,
        Err(Failure::Said { message, .. }) => return Check::new("limits", Status::Failed, message),
        Err(_) => return Check::new("limits", Status::Failed, "cannot read the configuration"),
    };
    let limits = config.limits;
    let statement = LimitStatement::predict(limits);
    match limits.mode {
        LimitMode::Off => Check::new("limits", Status::Warning, statement.to_string())
            .advise("enforce them with worker.limits.mode = \"auto\""),
        LimitMode::Auto if !statement.has_all_controllers() => {
            Check::new("limits", Status::Warning, statement.to_string()).advise(
                "give workers their own cgroup: set Delegate=yes in systemd, or run them as root",
            )
        }
        LimitMode::Auto | LimitMode::Rlimit => {
            Check::new("limits", Status::Ok, statement.to_string())
        }
    }
}

fn check_token(name: &'static str, file: &Path) -> Check {
    match Token::from_file(file) {
        Ok(_) => Check::new(name, Status::Ok, format!("{} is private", file.display())),
        Err(TokenError::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Check::new(name, Status::Skipped, format!("no file {}", file.display()))
        }
        Err(error) => Check::new(name, Status::Failed, error.to_string()),
    }
}

/// Checks whether Redis, if configured, responds and is durable. A new cluster is created, as the
/// coordinator would.
async fn check_redis(config: &Config) -> Check {
    let url = config.store.url();
    let check = |status, detail: String| Check::new("redis", status, detail);
    if !url.starts_with("redis") {
        return check(Status::Skipped, format!("not used; the store is {url}"));
    }
    let masked = mask_url_password(url);
    let partitions = match config.settings() {
        Ok(settings) => settings.partitions,
        Err(error) => return check(Status::Failed, error.to_string()),
    };
    let id = ClusterId(uuid::Uuid::now_v7().as_u128());
    let redis = config.store.redis(config.leader_ttl);
    match RedisStore::open(&redis, ClusterMeta { id, partitions }).await {
        Ok(store) => {
            use kahn_store::LogStore as _;
            check(Status::Ok, format!("{masked} responds, durability {}", store.durability()))
        }
        Err(error) => check(Status::Failed, format!("{masked}: {error}")),
    }
}

/// Checks whether the blob store, if configured, responds.
async fn check_blobs(config: &Config) -> Check {
    let check = |status, detail: String| Check::new("blob store", status, detail);
    match config.blobs.check().await {
        Ok(Some(url)) => check(Status::Ok, format!("{url} responds")),
        Ok(None) => check(Status::Skipped, "not used; output stays with the coordinator".into()),
        Err(error) => check(Status::Failed, error.to_string()),
    }
}

async fn check_coordinator(context: &Context) -> Vec<Check> {
    let clock = Clock::start();
    let now = Timestamp(clock.unix_micros());
    let mut checks = Vec::new();
    if now < EARLIEST {
        let detail = format!("the clock of this host shows {}", text::time(now));
        checks.push(Check::new("clock", Status::Failed, detail).advise("set the clock"));
    }
    let workers = async { Ok::<_, Failure>(context.client().await?.list_workers().await?) };
    let workers = match workers.await {
        Ok(workers) => workers,
        Err(Failure::Said { message, advice, .. }) => {
            let status =
                if context.given_url().is_some() { Status::Failed } else { Status::Skipped };
            let check = Check::new("coordinator", status, message);
            checks.push(Check { advice, ..check });
            return checks;
        }
        Err(_) => return checks,
    };
    let attached: Vec<_> = workers.iter().filter(|worker| worker.status == "attached").collect();
    let n_attached = u64::try_from(attached.len()).unwrap_or(u64::MAX);
    let detail = format!("{} responds, {}", context.url(), text::plural(n_attached, "worker"));
    checks.push(match n_attached {
        0 => Check::new("coordinator", Status::Warning, detail).advise("start one: kahn worker"),
        _ => Check::new("coordinator", Status::Ok, detail),
    });
    // The last heartbeat of an attached worker is recent, by the coordinator's clock.
    if let Some(heard_at) = attached.iter().filter_map(|worker| worker.heard_at).max() {
        checks.push(check_clocks(Timestamp(clock.unix_micros()), heard_at));
    }
    checks
}

fn check_clocks(here: Timestamp, there: Timestamp) -> Check {
    let apart = here.since(there).max(there.since(here));
    if apart <= CLOCKS_APART_MAX {
        return Check::new("clock", Status::Ok, "in sync with the coordinator's clock");
    }
    let detail = format!("differs by {} from the coordinator's clock", text::span(apart));
    Check::new("clock", Status::Warning, detail)
        .advise("use NTP on both; only displayed times are affected")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_token_file_that_others_can_read_fails_with_the_command_that_mends_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("client.token");
        assert_eq!(check_token("client token", &file).status, Status::Skipped);
        Token::from_file_or_generate(&file).unwrap();
        assert_eq!(check_token("client token", &file).status, Status::Ok);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let check = check_token("client token", &file);
        assert_eq!(check.status, Status::Failed);
        assert!(check.detail.contains("chmod 600"), "{}", check.detail);
    }

    #[test]
    fn clocks_far_apart_are_told() {
        let here = Timestamp(100_000_000);
        assert_eq!(check_clocks(here, Timestamp(99_000_000)).status, Status::Ok);
        let ahead = check_clocks(here, Timestamp(160_000_000));
        assert_eq!(ahead.status, Status::Warning);
        assert_eq!(
            ahead.line(),
            "warning  clock          differs by 1m 00s from the coordinator's clock\n\
             \x20                       use NTP on both; only displayed times are affected\n"
        );
    }

    #[test]
    fn a_data_directory_must_be_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(check_data_dir(&dir.path().join("none")).status, Status::Skipped);
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(check_data_dir(dir.path()).status, Status::Warning);
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(check_data_dir(dir.path()).status, Status::Ok);
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(check_data_dir(&file).status, Status::Failed);
    }
}
