//! Measures the limits of the host: a round trip on a bare stream, an append to the bare store, and
//! the rate of process starts.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use kahn_core::log::{Head, LogWriter};
use kahn_model::Partition;
use kahn_proto::worker::sessions_client::SessionsClient;
use kahn_proto::worker::{Heartbeat, WorkerMessage, worker_message};
use kahn_store::{
    Batch, Claim, ClusterId, ClusterMeta, Durability, EmbeddedStore, LogStore, MemoryStore, Owner,
    RedisConfig, RedisStore, link,
};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;

use super::hops::quantile;
use super::processes::{Bench, Role, free_port, own_binary, wait_for_port};
use super::{StoreKind, scratch};
use crate::exit::Failure;

/// The measurements; the names are stable.
#[derive(Debug, Serialize)]
pub(super) struct Floor {
    workload: &'static str,
    store: &'static str,
    stream_p50_us: f64,
    stream_p99_us: f64,
    append_p50_us: f64,
    append_p99_us: f64,
    /// The sum of a round trip and an append.
    hop_p50_us: f64,
    hop_p99_us: f64,
    processes_per_second: f64,
    processes_in_flight: usize,
}

const ROUND_TRIPS: u64 = 3_000;
const APPENDS: u64 = 2_000;
/// Approximate size of the record that one hop of a chain writes.
const RECORD_BYTES: usize = 160;
const PROCESSES: usize = 3_000;
/// The number of slots of the workload `process`.
const PROCESSES_IN_FLIGHT: usize = 16;

pub(super) async fn measure(store: StoreKind, redis_url: Option<&str>) -> Result<Floor, Failure> {
    let stream = round_trips().await?;
    let append = appends(store, redis_url).await?;
    let at = |sorted: &[f64], share| quantile(sorted, share).unwrap_or(f64::NAN);
    let processes_per_second =
        tokio::task::spawn_blocking(|| spawn_rate(PROCESSES)).await.unwrap_or(f64::NAN);
    Ok(Floor {
        workload: "floor",
        store: store.word(),
        stream_p50_us: at(&stream, 0.5),
        stream_p99_us: at(&stream, 0.99),
        append_p50_us: at(&append, 0.5),
        append_p99_us: at(&append, 0.99),
        hop_p50_us: at(&stream, 0.5) + at(&append, 0.5),
        hop_p99_us: at(&stream, 0.99) + at(&append, 0.99),
        processes_per_second,
        processes_in_flight: PROCESSES_IN_FLIGHT,
    })
}

/// Measures round trips between two processes. Returns sorted microseconds.
async fn round_trips() -> Result<Vec<f64>, Failure> {
    let port = free_port()?;
    let mut command = own_binary()?;
    command.args(["bench", "echo", "--port", &port.to_string()]);
    let mut bench = Bench::empty(scratch()?)?;
    bench.spawn(Role::Client, command, "echo.log")?;
    wait_for_port(port).await?;
    let failed = |error: &dyn std::fmt::Display| Failure::refused(format!("echo: {error}"));
    let mut client = SessionsClient::connect(format!("http://127.0.0.1:{port}"))
        .await
        .map_err(|e| failed(&e))?;
    let (tx, messages) = mpsc::channel(4);
    let mut inbound =
        client.attach(ReceiverStream::new(messages)).await.map_err(|e| failed(&e))?.into_inner();
    let mut times = Vec::new();
    for number in 0..ROUND_TRIPS {
        let started = Instant::now();
        let message = Some(worker_message::Message::Heartbeat(Heartbeat { number }));
        tx.send(WorkerMessage { message }).await.map_err(|e| failed(&e))?;
        inbound.message().await.map_err(|e| failed(&e))?;
        times.push(micros(started));
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

fn micros(started: Instant) -> f64 {
    started.elapsed().as_secs_f64() * 1e6
}

/// Measures sequential appends. Returns sorted microseconds.
async fn appends(kind: StoreKind, redis_url: Option<&str>) -> Result<Vec<f64>, Failure> {
    let dir = scratch()?;
    let mut bench = Bench::empty(dir.clone())?;
    let url = bench.open_store(kind, redis_url).await?;
    let failed = |error: &dyn std::fmt::Display| Failure::refused(format!("store: {error}"));
    let meta = ClusterMeta { id: ClusterId(1), partitions: 1 };
    let embedded = |durability| EmbeddedStore::open(&dir.join("floor"), meta, durability);
    let store: Arc<dyn LogStore> = match kind {
        StoreKind::Memory => Arc::new(MemoryStore::new(meta)),
        StoreKind::Embedded => Arc::new(embedded(Durability::Process).map_err(|e| failed(&e))?),
        StoreKind::EmbeddedDisk => Arc::new(embedded(Durability::Disk).map_err(|e| failed(&e))?),
        StoreKind::Redis | StoreKind::RedisAlways => {
            let config = RedisConfig { allow_unsafe: true, ..RedisConfig::new(&url) };
            Arc::new(RedisStore::open(&config, meta).await.map_err(|e| failed(&e))?)
        }
    };
    let partition = Partition(0);
    let acquired = store
        .acquire(partition, &Owner::without_address(1), Claim::Force)
        .await
        .map_err(|e| failed(&e))?;
    let mut writer = LogWriter::new(acquired.head);
    let mut pipe = store.pipe(partition, acquired.term);
    let payload = Bytes::from(vec![7; RECORD_BYTES]);
    let mut times = Vec::new();
    for _ in 0..APPENDS {
        let started = Instant::now();
        let head: Head = writer.head();
        writer.push(Batch::new(payload.clone()), link(head.hash, &payload));
        let append =
            writer.next_send().ok_or_else(|| Failure::refused("store: nothing to send"))?;
        pipe.send(append);
        let reply = std::future::poll_fn(|cx| pipe.poll_reply(cx)).await;
        writer.on_reply(reply.send, reply.reply);
        times.push(micros(started));
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// Returns how many processes start and end per second, with as many in flight as the benchmark has
/// slots. Blocks until `processes` of them have ended.
pub(super) fn spawn_rate(processes: usize) -> f64 {
    let left = AtomicUsize::new(processes);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..PROCESSES_IN_FLIGHT {
            scope.spawn(|| {
                let take = |n: usize| n.checked_sub(1);
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                    let mut command = Command::new("/bin/true");
                    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                    // Errors are ignored: without the program, the rate is obviously absurd.
                    drop(command.status());
                }
            });
        }
    });
    let n = u32::try_from(processes).map_or(f64::NAN, f64::from);
    n / started.elapsed().as_secs_f64()
}
