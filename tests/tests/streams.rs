//! A thousand worker streams, with the real protocol, at a leader that is killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use kahn_e2e::{Coordinators, Part};
use kahn_net::Addresses;
use kahn_proto::storage::Resources;
use kahn_proto::worker::sessions_client::SessionsClient;
use kahn_proto::worker::{Heartbeat, Hello, WorkerMessage, coordinator_message, worker_message};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

const STREAMS: usize = 1000;
const STREAMS_PER_CONNECTION: usize = 25;
/// The time in which all must be attached again after the next leader has begun.
const ADOPTED_MAX: Duration = Duration::from_secs(3);
/// The share of a processor that a leader may use for idle streams. Debug builds use more.
const IDLE_MAX: f64 = if cfg!(debug_assertions) { 0.5 } else { 0.1 };
const IDLE_SPAN: Duration = Duration::from_secs(4);

/// The number of streams that are attached.
type Attached = Arc<AtomicUsize>;

fn hello(number: usize) -> WorkerMessage {
    WorkerMessage {
        message: Some(worker_message::Message::Hello(Hello {
            protocol: 1,
            worker: format!("s{number}"),
            boot: 1,
            capacity: Some(Resources { cpu_milli: 1000, ..Resources::default() }),
            executors: vec!["process".into()],
            leases_max: 1,
            ..Hello::default()
        })),
    }
}

/// Keeps one worker attached.
async fn keep_attached(channel: Channel, token: String, number: usize, attached: Attached) {
    loop {
        // It ends with the stream.
        drop(attach(channel.clone(), &token, number, &attached).await);
        sleep(Duration::from_millis(50 + u64::try_from(number % 100).unwrap_or(0))).await; // poll
    }
}

async fn attach(
    channel: Channel,
    token: &str,
    number: usize,
    attached: &Attached,
) -> Result<(), Status> {
    let (say, said) = mpsc::channel(4);
    let mut request = Request::new(ReceiverStream::new(said));
    let header = format!("Bearer {token}").parse().map_err(|_| Status::internal("token"))?;
    request.metadata_mut().insert("authorization", header);
    let mut heard = SessionsClient::new(channel).attach(request).await?.into_inner();
    drop(say.send(hello(number)).await);
    let mut beats = interval(Duration::from_secs(1));
    let mut beat = 0;
    let mut is_welcome = false;
    let ended = loop {
        tokio::select! {
            message = heard.message() => match message {
                Ok(Some(message)) => {
                    let welcome = matches!(
                        message.message,
                        Some(coordinator_message::Message::Welcome(_))
                    );
                    if welcome && !is_welcome {
                        is_welcome = true;
                        attached.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Ok(None) => break Ok(()),
                Err(status) => break Err(status),
            },
            _ = beats.tick(), if is_welcome => {
                beat += 1;
                let heartbeat = worker_message::Message::Heartbeat(Heartbeat { number: beat });
                drop(say.send(WorkerMessage { message: Some(heartbeat) }).await);
            }
        }
    };
    if is_welcome {
        attached.fetch_sub(1, Ordering::Relaxed);
    }
    ended
}

async fn wait_until_all(attached: &Attached, timeout: Duration) -> anyhow::Result<Duration> {
    let since = Instant::now();
    while attached.load(Ordering::Relaxed) < STREAMS {
        let n = attached.load(Ordering::Relaxed);
        ensure!(since.elapsed() < timeout, "{n} of {STREAMS} streams after {timeout:?}");
        sleep(Duration::from_millis(10)).await; // poll
    }
    Ok(since.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_worker_streams_are_adopted_by_the_next_leader() -> anyhow::Result<()> {
    let mut cluster = Coordinators::start(2, 0)?;
    let (token, attached) = (cluster.worker_token()?, Attached::default());
    let mut channel = None;
    for number in 0..STREAMS {
        if number % STREAMS_PER_CONNECTION == 0 {
            let addresses = Addresses::parse(&cluster.urls())?;
            let endpoint = Endpoint::from(addresses.preferred().clone());
            channel = Some(addresses.connect_lazy(endpoint));
        }
        let channel = channel.clone().context("invariant: just made")?;
        tokio::spawn(keep_attached(channel, token.clone(), number, Arc::clone(&attached)));
    }
    wait_until_all(&attached, Duration::from_secs(60)).await?;
    let (leader, _) = cluster.wait_for_leader(None)?;
    let (before, began_at) = (cluster.cpu(Part::Coordinator(leader))?, Instant::now());
    sleep_until(began_at + IDLE_SPAN).await;
    let used = cluster.cpu(Part::Coordinator(leader))? - before;
    let idle = used.as_secs_f64() / began_at.elapsed().as_secs_f64();
    assert!(idle < IDLE_MAX, "{STREAMS} idle streams use {idle:.3} of a processor");

    cluster.kill9(Part::Coordinator(leader))?;
    cluster.wait_for_leader(Some(leader))?;
    let elapsed = wait_until_all(&attached, ADOPTED_MAX).await?;
    println!("idle: {idle:.3} of a processor; all adopted {elapsed:?} after the next leader began");
    Ok(())
}
