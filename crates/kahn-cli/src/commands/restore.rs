//! `kahn restore`: checks a backup, and writes it to an empty store.

use clap::Args;
use kahn_backup::{Counts, Reader};
use kahn_coordinator::{Config, begin_import};
use kahn_runtime::secret::mask_url_password;
use serde_json::{Value, json};

use super::backup_place::PlaceArgs;
use super::coordinator::{self, CoordinatorArgs};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::render::text;

/// Arguments of `restore`.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The backup, as `kahn backup` has printed it
    url: String,
    /// Only check that the backup is whole and can be read; write nothing
    #[arg(long, conflicts_with_all = ["store", "keep_id"])]
    check: bool,
    /// Empty store to write to: embedded, in the data directory, or the URL of Redis, such as
    /// redis://host or redis+sentinel://host/master [default: coordinator.store.url]
    #[arg(long, value_name = "STORE")]
    store: Option<String>,
    /// Keep the id of the cluster, and with it the output in its blob store. Only if the cluster that
    /// was backed up does not run any more, and never will
    #[arg(long)]
    keep_id: bool,
    /// Accept a Redis server whose settings can lose acknowledged changes
    #[arg(long)]
    allow_unsafe_redis: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

pub(crate) async fn run(args: RestoreArgs, context: &Context) -> Result<Exit, Failure> {
    let RestoreArgs { url, check, store, keep_id, allow_unsafe_redis, place } = args;
    let backup = Reader::open(place.open_existing(&url)?).await?;
    if check {
        backup.check(|_| {}).await?;
        show(context, &url, &backup, None)?;
        return Ok(Exit::Success);
    }
    let flags = CoordinatorArgs::of_store(store, allow_unsafe_redis);
    let config = coordinator::load(&flags, context)?;
    // A damaged backup leaves the store empty.
    backup.check(|_| {}).await?;
    restore(&backup, &config, keep_id, context, &url).await?;
    Ok(Exit::Success)
}

async fn restore(
    backup: &Reader,
    config: &Config,
    keep_id: bool,
    context: &Context,
    url: &str,
) -> Result<(), Failure> {
    let meta = backup.manifest().meta();
    let id = keep_id.then_some(meta.id);
    let import = begin_import(config, meta.partitions, id).await;
    let import = import.map_err(|error| Failure::refused(error.to_string()))?;
    backup.restore(&*import, |_| {}).await?;
    let restored = Restored { cluster: import.meta().id.to_string(), store: store_name(config) };
    show(context, url, backup, Some(&restored))
}

/// The cluster that a backup has become.
struct Restored {
    cluster: String,
    store: String,
}

/// Returns the name of a store, without passwords.
fn store_name(config: &Config) -> String {
    match config.store.url() {
        "embedded" => format!("the embedded store in {}", config.data_dir.display()),
        url => mask_url_password(url),
    }
}

fn show(
    context: &Context,
    url: &str,
    backup: &Reader,
    restored: Option<&Restored>,
) -> Result<(), Failure> {
    let manifest = backup.manifest();
    let (_, bytes) = manifest.size();
    let Counts { live_runs, finished_runs, archived_runs, tasks } = manifest.counts();
    if context.is_json() {
        return output::json(&json!({
            "backup": url,
            "backup_of": manifest.cluster,
            "began_at": manifest.began_at,
            "cluster": restored.map(|restored| &restored.cluster),
            "store": restored.map_or(Value::Null, |restored| json!(restored.store)),
            "partitions": manifest.partitions.len(),
            "runs": { "live": live_runs, "finished": finished_runs, "archived": archived_runs },
            "tasks": tasks,
            "bytes": bytes,
        }));
    }
    let head = match restored {
        None => format!("the backup of cluster {} is whole", manifest.cluster),
        Some(Restored { cluster, store }) => format!("restored as cluster {cluster} in {store}"),
    };
    let runs = format!("{live_runs} live and {} ", text::plural(finished_runs, "finished run"));
    let archived = super::backup_place::archived(archived_runs);
    output::text(&format!(
        "{head}\n\
         {}, {runs}with {} in all, {} bytes, as of {}\n{archived}",
        text::plural(manifest.partitions.len() as u64, "partition"),
        text::plural(tasks, "task"),
        text::bytes(bytes),
        text::safe(&manifest.began_at),
    ))
}
