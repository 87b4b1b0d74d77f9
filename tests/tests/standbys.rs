//! Standbys: they take over from a leader that ends, hands over or is paused, and serve everybody
//! meanwhile.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::Duration;

use anyhow::Context as _;
use kahn_e2e::{Coordinators, History, Part, wait_for, wait_until};
use tokio::time::Instant;

/// The `leader_ttl` of these clusters.
const LEADER_TTL: Duration = Duration::from_secs(2);
/// What a takeover may take beyond that.
const TAKEOVER_MAX: Duration = Duration::from_secs(1);

/// Submits 300 short tasks to run one after another in ten chains.
fn submit(cluster: &Coordinators, url: &str) -> anyhow::Result<String> {
    let chains = (0..10).flat_map(|chain| {
        (0..30).map(move |n| {
            let needs = if n == 0 { String::new() } else { format!("c{chain}-{}", n - 1) };
            format!("  c{chain}-{n}: {{ needs: [{needs}], run: 'sleep 0.2; echo {n}' }}\n")
        })
    });
    let text = format!("name: chains\ntasks:\n{}", chains.collect::<String>());
    let file = cluster.write("chains.yaml", &text)?.display().to_string();
    let submitted = cluster.kahn_at(url, &["submit", &file, "--output", "json"])?.ok()?.json()?;
    Ok(submitted["run"].as_str().unwrap_or_default().to_owned())
}

fn n_ended(cluster: &Coordinators, run: &str) -> u64 {
    let shown = || cluster.kahn(&["get", run, "--output", "json"]).ok()?.ok().ok()?.json().ok();
    shown().and_then(|shown| shown["tasks"]["succeeded"].as_u64()).unwrap_or(0)
}

fn wait_until_ended(cluster: &Coordinators, run: &str, n: u64) -> anyhow::Result<()> {
    let what = format!("{n} tasks to end");
    wait_until(&what, Duration::from_secs(120), || n_ended(cluster, run) >= n)
}

/// Waits for the end of a run, and checks that each task ran once.
fn check_end(cluster: &Coordinators, run: &str) -> anyhow::Result<()> {
    let history: History = wait_for("the run to end", Duration::from_secs(120), || {
        cluster.history(run).ok().filter(|history| history.has("run_succeeded"))
    })?;
    history.check_outcomes()?;
    let repeated: Vec<_> =
        history.starts().into_iter().filter(|(_, starts)| starts.len() > 1).collect();
    assert!(repeated.is_empty(), "{repeated:?}\n{}", cluster.printed());
    assert_eq!(history.starts().len(), 300);
    assert_eq!(n_ended(cluster, run), 300);
    Ok(())
}

#[test]
fn standbys_take_over_from_killed_leaders_and_nothing_is_lost_or_repeated() -> anyhow::Result<()> {
    let mut cluster = Coordinators::start(3, 2)?;
    let run = submit(&cluster, &cluster.urls())?;
    for n in 1..=3 {
        wait_until_ended(&cluster, &run, 40 * n)?;
        let (leader, _) = cluster.wait_for_leader(None)?;
        cluster.kill9(Part::Coordinator(leader))?;
        let (_, elapsed) = cluster.wait_for_leader(Some(leader))?;
        assert!(elapsed <= LEADER_TTL + TAKEOVER_MAX, "{elapsed:?}\n{}", cluster.printed());
        cluster.restart(Part::Coordinator(leader))?;
        cluster.wait_for_role(leader, "standby")?;
    }
    check_end(&cluster, &run)
}

#[test]
fn a_leader_that_is_stopped_hands_over_within_a_second() -> anyhow::Result<()> {
    let mut cluster = Coordinators::start(2, 1)?;
    let run = submit(&cluster, &cluster.urls())?;
    for n in 1..=2 {
        wait_until_ended(&cluster, &run, 40 * n)?;
        let (leader, _) = cluster.wait_for_leader(None)?;
        cluster.signal(Part::Coordinator(leader), "TERM")?;
        let (_, elapsed) = cluster.wait_for_leader(Some(leader))?;
        assert!(elapsed <= TAKEOVER_MAX, "{elapsed:?}\n{}", cluster.printed());
        assert_eq!(cluster.wait_for_exit(leader)?, 0);
        cluster.restart(Part::Coordinator(leader))?;
        cluster.wait_for_role(leader, "standby")?;
    }
    check_end(&cluster, &run)
}

#[test]
fn a_leader_that_was_paused_becomes_a_standby_and_has_written_nothing() -> anyhow::Result<()> {
    let mut cluster = Coordinators::start(2, 2)?;
    let run = submit(&cluster, &cluster.urls())?;
    wait_until_ended(&cluster, &run, 40)?;
    let (leader, _) = cluster.wait_for_leader(None)?;
    let mut watch = cluster.start_kahn(&cluster.url(leader), "watch", &["watch", &run])?;
    wait_until("the watch to begin", Duration::from_secs(20), || !watch.printed().is_empty())?;
    cluster.signal(Part::Coordinator(leader), "STOP")?;
    let (next, _) = cluster.wait_for_leader(Some(leader))?;
    // Its workers notice that it is silent, and attach to the next one.
    let next_alone = cluster.url(next);
    wait_until("the next leader to go on", Duration::from_secs(60), || {
        let shown = cluster.kahn_at(&next_alone, &["get", &run, "--output", "json"]);
        let shown = shown.and_then(|answer| answer.ok()?.json());
        shown.is_ok_and(|shown| shown["tasks"]["succeeded"].as_u64() >= Some(120))
    })?;
    cluster.signal(Part::Coordinator(leader), "CONT")?;
    cluster.wait_for_role(leader, "standby")?;
    assert!(cluster.has_role(next, "leader"));
    check_end(&cluster, &run)?;
    // What began at the earlier leader goes on through it.
    assert_eq!(watch.wait(Duration::from_secs(60))?, 0, "{}", watch.printed());
    Ok(())
}

#[test]
fn a_coordinator_with_the_state_of_an_earlier_leader_stands_by_and_writes_nothing()
-> anyhow::Result<()> {
    let mut cluster = Coordinators::start(3, 2)?;
    let run = submit(&cluster, &cluster.urls())?;
    wait_until_ended(&cluster, &run, 20)?;
    let (earlier, _) = cluster.wait_for_leader(None)?;
    cluster.kill9(Part::Coordinator(earlier))?;
    let (leader, _) = cluster.wait_for_leader(Some(earlier))?;
    // It knows the identity of the earlier leader, whose lease it might take back.
    let fourth = cluster.start_copy(earlier)?;
    cluster.wait_for_role(fourth, "standby")?;
    wait_until_ended(&cluster, &run, 100)?;
    assert!(cluster.has_role(leader, "leader"), "{}", cluster.printed());
    assert_eq!(cluster.metric(fourth, "kahn_log_batches_total")?, 0.0);
    assert!(0.0 < cluster.metric(leader, "kahn_log_batches_total")?);
    check_end(&cluster, &run)
}

#[test]
fn a_standby_serves_everything_by_forwarding_it() -> anyhow::Result<()> {
    let mut cluster = Coordinators::start(2, 1)?;
    let (leader, _) = cluster.wait_for_leader(None)?;
    let standby = cluster.url(1 - leader);
    let run = submit(&cluster, &standby)?;
    let listed = cluster.kahn_at(&standby, &["list", "--output", "json"])?.ok()?.json()?;
    assert_eq!(listed["run"], run.as_str(), "{listed}");

    let wrong = cluster.write("wrong.token", &"x".repeat(43))?.display().to_string();
    let refused = cluster.kahn_at(&standby, &["list", "--token-file", &wrong])?;
    assert_ne!(refused.code, 0, "{refused:?}");

    // A stream through the standby goes on when the standby itself becomes the leader.
    let mut watch = cluster.start_kahn(&standby, "watch", &["watch", &run])?;
    let follow = ["logs", &run, "c0-29", "--follow"];
    let mut logs = cluster.start_kahn(&standby, "logs", &follow)?;
    wait_until_ended(&cluster, &run, 40)?;
    cluster.kill9(Part::Coordinator(leader))?;
    assert_eq!(watch.wait(Duration::from_secs(120))?, 0, "{}", watch.printed());
    assert_eq!(logs.wait(Duration::from_secs(60))?, 0, "{}", logs.printed());
    assert_eq!(logs.printed().trim(), "29");
    check_end(&cluster, &run)?;
    // What only the earlier leader has is not passed off as nothing.
    let early = cluster.kahn_at(&standby, &["logs", &run, "c0-0"])?;
    assert!(early.stderr.contains("another coordinator has received it"), "{early:?}");
    Ok(())
}

/// Who connects to a coordinator that cannot answer yet would wait in vain, perhaps until its leases
/// are lost, instead of turning to another one.
#[test]
fn a_coordinator_refuses_connections_until_it_serves() -> anyhow::Result<()> {
    let mut cluster = Coordinators::start(2, 0)?;
    let (leader, _) = cluster.wait_for_leader(None)?;
    let other = 1 - leader;
    let url = cluster.url(other);
    let connect = || TcpStream::connect(url.trim_start_matches("http://"));
    cluster.kill9(Part::Coordinator(other))?;
    cluster.signal(Part::Redis, "STOP")?;
    cluster.restart(Part::Coordinator(other))?;
    let limit = Duration::from_secs(60);
    wait_until("the new process", limit, || cluster.metric(other, "process_threads").is_ok())?;
    let since = Instant::now();
    // Shorter than the time after which a coordinator without a store ends.
    wait_until("a while without a connection", limit, || {
        let refused = connect().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        Duration::from_millis(300) <= since.elapsed()
    })?;
    cluster.signal(Part::Redis, "CONT")?;
    wait_until("a connection", limit, || connect().is_ok()).with_context(|| cluster.printed())
}
