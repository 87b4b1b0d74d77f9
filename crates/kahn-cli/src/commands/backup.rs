//! `kahn backup`: writes the state of a cluster to a blob store while the cluster runs.

use std::time::Duration;

use clap::Args;
use kahn_backup::{Counts, Manifest, PartitionInfo, Source, Writer};
use kahn_blob::{BlobStore, Key};
use kahn_client::{Client, ExportHeader, ExportPart};
use kahn_runtime::clock::{Clock, format_micros};
use serde_json::json;
use tokio::time::Instant;

use super::backup_place::PlaceArgs;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::render::json::seconds;
use crate::render::text;

/// Arguments of `backup`.
#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// Where to write: a directory, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix.
    /// The backup is in a place of its own below, which is printed
    url: String,
    #[command(flatten)]
    place: PlaceArgs,
}

pub(crate) async fn run(args: BackupArgs, context: &Context) -> Result<Exit, Failure> {
    let store = args.place.open(&args.url)?;
    let client = context.client().await?;
    let (clock, began) = (Clock::start(), Instant::now());
    let began_at = format_micros(clock.unix_micros());
    let mut writer = None;
    let mut first = Some((store, began_at));
    let mut partitions = 1;
    for partition in 0.. {
        if partition == partitions {
            break;
        }
        let info = copy(&client, partition, &mut first, &mut writer).await?;
        if let Some(writer) = &mut writer {
            partitions = writer.source().partitions;
            writer.add(info);
        }
    }
    let writer: Writer =
        writer.ok_or_else(|| Failure::refused("the coordinator has not named its cluster"))?;
    let url = writer.url();
    let manifest = writer.finish(format_micros(clock.unix_micros())).await?;
    show(context, &url, &manifest, began.elapsed())?;
    Ok(Exit::Success)
}

/// Copies one partition. The first answer of the coordinator begins the backup.
async fn copy(
    client: &Client,
    partition: u16,
    first: &mut Option<(BlobStore, String)>,
    writer: &mut Option<Writer>,
) -> Result<PartitionInfo, Failure> {
    let mut export = client.export(partition);
    let mut next = export.next().await?;
    while let Some(ExportPart::Begun(header)) = next {
        let source = source(header);
        if let Some((store, began_at)) = first.take() {
            *writer = Some(begin(store, source.clone(), began_at).await?);
        }
        let Some(writer) = writer.as_ref() else { break };
        let mut written = writer.partition(&source)?;
        next = loop {
            match export.next().await? {
                Some(ExportPart::Data(piece)) => written.push(&piece).await?,
                Some(begun @ ExportPart::Begun(_)) => break Some(begun),
                None => return Ok(written.end().await?),
            }
        };
    }
    Err(Failure::refused(format!("the coordinator has sent nothing for partition {partition}")))
}

fn source(header: ExportHeader) -> Source {
    let ExportHeader { cluster, partitions, version } = header;
    Source { cluster, partitions, version }
}

async fn begin(store: BlobStore, source: Source, began_at: String) -> Result<Writer, Failure> {
    let group = group(&source.cluster, &began_at)?;
    super::backup_place::create_private(&store, &group)?;
    Ok(Writer::begin(store, group, source, began_at).await?)
}

/// Returns the group of a backup: cluster and time, such as `0123…/20260101T000000.000000Z`.
fn group(cluster: &str, began_at: &str) -> Result<Key, Failure> {
    let time: String = began_at.chars().filter(|c| !matches!(c, '-' | ':')).collect();
    Key::new(format!("{cluster}/{time}"))
        .map_err(|error| Failure::refused(format!("the id of the cluster: {error}")))
}

fn show(
    context: &Context,
    url: &str,
    manifest: &Manifest,
    elapsed: Duration,
) -> Result<(), Failure> {
    let (n_parts, bytes) = manifest.size();
    let Counts { live_runs, finished_runs, archived_runs, tasks } = manifest.counts();
    if context.is_json() {
        return output::json(&json!({
            "backup": url,
            "cluster": manifest.cluster,
            "partitions": manifest.partitions.len(),
            "runs": { "live": live_runs, "finished": finished_runs, "archived": archived_runs },
            "tasks": tasks,
            "bytes": bytes,
            "objects": n_parts + 1,
            "began_at": manifest.began_at,
            "elapsed_seconds": seconds(elapsed),
        }));
    }
    let cluster = &manifest.cluster;
    let partitions = text::plural(manifest.partitions.len() as u64, "partition");
    let runs = format!("{live_runs} live and {} ", text::plural(finished_runs, "finished run"));
    let archived = super::backup_place::archived(archived_runs);
    output::text(&format!(
        "backup of cluster {cluster} in {url}\n\
         {partitions}, {runs}with {} in all, {} bytes, {}\n\
         {archived}to restore it into an empty store: kahn restore {url} --store STORE\n",
        text::plural(tasks, "task"),
        text::bytes(bytes),
        text::span(elapsed),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backups_of_a_cluster_are_in_the_order_of_their_times() {
        let group = |at: &str| group("c", at).unwrap().to_string();
        let first = group("2026-01-01T00:00:00.000001Z");
        assert_eq!(first, "c/20260101T000000.000001Z");
        assert!(first < group("2026-01-01T00:00:01.000000Z"));
    }
}
