//! Real signals, sent by this process to itself; alone in its process, because they reach all of it.

use kahn_runtime::shutdown::{Phase, Shutdown};
use rustix::process::{Signal, getpid, kill_process};

#[tokio::test]
async fn the_first_signal_drains_and_the_second_ends_at_once() {
    let shutdown = Shutdown::on_signals().unwrap();
    assert_eq!(shutdown.phase(), Phase::Running);
    kill_process(getpid(), Signal::TERM).unwrap();
    shutdown.drain_requested().await;
    assert_eq!(shutdown.phase(), Phase::Draining);
    kill_process(getpid(), Signal::INT).unwrap();
    shutdown.immediate_requested().await;
    assert_eq!(shutdown.phase(), Phase::Immediate);
}
