//! Benchmarks one append to an idle store, from the push to the event that the batch is durable.
//!
//! Prints the median and the 99th percentile beside the mean, which criterion compares between
//! runs. For Redis it also prints two lower bounds over a blocking connection: a plain `XADD` with
//! as many bytes, and the append script itself.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![expect(clippy::print_stderr, reason = "percentiles are for the reader")]
#![expect(clippy::disallowed_methods, reason = "a bench measures time")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kahn_model::Partition;
use kahn_store::testing::{RedisPair, RedisServer};
use kahn_store::{
    Acquired, AppendEvent, Appender, Batch, Claim, ClusterId, ClusterMeta, Durability,
    EmbeddedStore, LogStore, MemoryStore, Owner, RedisConfig, RedisStore,
};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

const CLUSTER: ClusterMeta = ClusterMeta { id: ClusterId(1), partitions: 1 };
const SIZES: [usize; 2] = [100, 64 << 10];
/// How many batches are pushed to measure the rate, and how many of them at once.
const N_BATCHES: u64 = 4_000;
const AHEAD: u64 = 8;

/// Prints the median and the 99th percentile.
fn show(name: &str, mut taken: Vec<Duration>) {
    taken.sort_unstable();
    if let (Some(p50), Some(p99)) = (taken.get(taken.len() / 2), taken.get(taken.len() * 99 / 100))
    {
        eprintln!("{name}: p50 {p50:?}  p99 {p99:?}  of {}", taken.len());
    }
}

fn measure(c: &mut Criterion, name: &str, size: usize, mut once: impl FnMut()) {
    let mut taken = Vec::new();
    let mut group = c.benchmark_group("append");
    group.throughput(Throughput::Bytes(u64::try_from(size).unwrap()));
    group.measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    group.bench_function(format!("{name}/{size}"), |b| {
        b.iter_custom(|n| {
            let begun = Instant::now();
            for _ in 0..n {
                let one = Instant::now();
                once();
                taken.push(one.elapsed());
            }
            begun.elapsed()
        });
    });
    group.finish();
    show(&format!("{name}/{size}"), taken);
}

fn measure_store(c: &mut Criterion, name: &str, runtime: &Runtime, store: &Arc<dyn LogStore>) {
    for size in SIZES {
        let (tx, mut events) = mpsc::channel(1_000);
        let mut appender = runtime.block_on(async {
            let acquired = store
                .acquire(Partition(0), &Owner::without_address(1), Claim::IfFree)
                .await
                .unwrap();
            let Acquired { term, head } = acquired;
            let tell = move |event| tx.try_send(event).unwrap();
            Appender::spawn(Arc::clone(store), Partition(0), term, head, tell)
        });
        let payload = Bytes::from(vec![7; size]);
        measure(c, name, size, || {
            runtime.block_on(async {
                let seq = appender.push(Batch::new(payload.clone())).unwrap();
                wait_for(&mut events, seq).await;
            });
        });
        let begun = Instant::now();
        runtime.block_on(async {
            for _ in 0..N_BATCHES / AHEAD {
                let seqs = (0..AHEAD).map(|_| appender.push(Batch::new(payload.clone())).unwrap());
                let last = seqs.last().unwrap();
                wait_for(&mut events, last - AHEAD / 2).await;
            }
        });
        let rate = f64::from(u32::try_from(N_BATCHES).unwrap()) / begun.elapsed().as_secs_f64();
        eprintln!("{name}/{size}: {rate:.0} batches per second with up to {AHEAD} ahead");
    }
}

/// Waits until a batch is durable.
async fn wait_for(events: &mut mpsc::Receiver<AppendEvent>, seq: u64) {
    loop {
        match events.recv().await.unwrap() {
            AppendEvent::Committed { through_seq, .. } if seq <= through_seq => return,
            AppendEvent::Committed { .. } | AppendEvent::Renewed { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

fn measure_floor(c: &mut Criterion, server: &RedisServer) {
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_connection().unwrap();
    for size in SIZES {
        let payload = vec![7_u8; size];
        measure(c, "redis-xadd-floor", size, || {
            let mut add = redis::cmd("XADD");
            add.arg("floor").arg("*").arg("b").arg(&payload).exec(&mut connection).unwrap();
        });
    }
    let script = redis::Script::new(include_str!("../src/scripts/append.lua"));
    redis::cmd("HSET").arg("{f}m").arg("f").arg("1:0").exec(&mut connection).unwrap();
    let mut seq = 0_u64;
    for size in SIZES {
        let payload = vec![7_u8; size];
        measure(c, "redis-script-floor", size, || {
            let hash: &[u8] = if seq == 0 { b"" } else { b"0123456789abcdef" };
            let mut call = script.key("{f}m");
            call.key("{f}log").key("{f}blobs").arg("1:0").arg(seq).arg(hash);
            call.arg(seq + 1).arg(b"0123456789abcdef").arg(&payload);
            let done: Vec<String> = call.invoke(&mut connection).unwrap();
            assert_eq!(done, ["OK"]);
            seq += 1;
        });
    }
}

fn stores(c: &mut Criterion) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let memory: Arc<dyn LogStore> = Arc::new(MemoryStore::new(CLUSTER));
    measure_store(c, "memory", &runtime, &memory);

    for (name, level) in
        [("embedded-process", Durability::Process), ("embedded-disk", Durability::Disk)]
    {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(EmbeddedStore::open(dir.path(), CLUSTER, level).unwrap());
        measure_store(c, name, &runtime, &(store as Arc<dyn LogStore>));
    }

    for fsync in ["everysec", "always"] {
        let server = RedisServer::start(fsync);
        if fsync == "everysec" {
            measure_floor(c, &server);
        }
        let config = RedisConfig::new(server.url());
        let store = Arc::new(runtime.block_on(RedisStore::open(&config, CLUSTER)).unwrap());
        measure_store(c, &format!("redis-{fsync}"), &runtime, &(store as Arc<dyn LogStore>));
    }

    let pair = RedisPair::start();
    let config = RedisConfig { replicas: 1, ..RedisConfig::new(pair.master.url()) };
    let store = Arc::new(runtime.block_on(RedisStore::open(&config, CLUSTER)).unwrap());
    measure_store(c, "redis-replicated", &runtime, &(store as Arc<dyn LogStore>));
}

criterion_group!(benches, stores);
criterion_main!(benches);
