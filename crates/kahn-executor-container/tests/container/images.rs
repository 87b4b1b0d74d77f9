//! Missing images.

use std::sync::Arc;
use std::time::Duration;

use kahn_model::{Cause, CauseKind, Container, PullPolicy, Text};

use crate::support::{Worker, fails_with, prog};

fn image(name: &str, pull: PullPolicy) -> Container {
    Container { image: Text::new(name), pull, ..Container::default() }
}

#[tokio::test]
async fn an_image_that_cannot_be_had_fails_at_once_with_the_engines_words() {
    let Some(worker) = Worker::new().await else { return };
    let missing = "kahn-test-no-such-image";
    let ended = worker.run(image(missing, PullPolicy::Never)).await;
    fails_with(&ended, CauseKind::Image, &[missing, "No such image"]);
    assert!(!ended.was_started);
    // Nothing listens on this port.
    let nowhere = "127.0.0.1:1/nothing:1";
    for pull in [PullPolicy::Missing, PullPolicy::Always] {
        let ended = worker.run(image(nowhere, pull)).await;
        fails_with(&ended, CauseKind::Image, &[nowhere, "refused"]);
    }
    fails_with(
        &worker.run(image("NO:::", PullPolicy::Missing)).await,
        CauseKind::Image,
        &["NO:::"],
    );
}

#[tokio::test]
async fn an_image_that_is_there_is_not_fetched() {
    let Some(worker) = Worker::with(|settings| settings.pull = false).await else { return };
    let mut container = prog(&["say", "hello"]);
    container.pull = PullPolicy::Missing;
    assert!(worker.run(container.clone()).await.log.contains("hello"));
    container.pull = PullPolicy::Always;
    fails_with(&worker.run(container).await, CauseKind::Policy, &["worker.container.pull"]);
    let missing = image("127.0.0.1:1/nothing", PullPolicy::Missing);
    fails_with(&worker.run(missing).await, CauseKind::Image, &["worker.container.pull"]);
}

#[tokio::test]
async fn fetching_has_a_clock_of_its_own_and_ends_when_asked_to() {
    // A registry that accepts connections but never responds.
    let registry = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let name = format!("127.0.0.1:{}/slow:1", registry.local_addr().unwrap().port());
    let timeout = Duration::from_millis(300);
    let Some(worker) = Worker::with(|settings| settings.pull_timeout = timeout).await else {
        return;
    };
    let mut assignment = worker.assignment(image(&name, PullPolicy::Missing));
    assignment.timeouts.run = Some(Duration::from_millis(1));
    let ended = worker.carry_out(assignment).await;
    fails_with(&ended, CauseKind::Image, &[&name, "300ms", "worker.container.pull_timeout"]);

    let Some(worker) = Worker::new().await else { return };
    let running = worker.start(worker.assignment(image(&name, PullPolicy::Missing)));
    let accepting = tokio::task::spawn_blocking(move || registry.accept().map(drop));
    accepting.await.unwrap().unwrap();
    running.stopper.stop(CauseKind::Cancelled);
    let asked = tokio::time::Instant::now();
    fails_with(&running.ended().await, CauseKind::Cancelled, &[]);
    assert!(asked.elapsed() < Duration::from_secs(60));
}

#[tokio::test]
async fn a_program_that_is_not_in_the_image_is_named_in_the_log() {
    let Some(worker) = Worker::new().await else { return };
    let mut container = prog(&[]);
    container.command = vec![Text::new("/no/such/program")];
    let ended = worker.run(container).await;
    // The starter in the container detects it: Docker's exits like a shell, Podman's with 1.
    let cause = ended.failure().cause;
    assert!(cause == Cause::exit_code(127) || cause == Cause::exit_code(1), "{cause}");
    let names = ["/no/such/program", "No such file or directory"];
    assert!(names.iter().any(|name| ended.log.contains(name)), "{}", ended.log);
}

#[tokio::test]
async fn what_the_engine_does_not_take_leaves_nothing_behind() {
    let Some(worker) = Worker::new().await else { return };
    let mut assignment = worker.assignment(prog(&["say"]));
    Arc::make_mut(&mut assignment.work).working_dir = Some(Text::new("not/absolute"));
    let ended = worker.carry_out(assignment).await;
    fails_with(&ended, CauseKind::Image, &["absolute"]);
    assert_eq!((ended.was_started, worker.n_left().await, worker.n_directories()), (false, 0, 0));

    let Some(worker) = Worker::with(|settings| settings.network = "no-such".into()).await else {
        return;
    };
    let ended = worker.run(prog(&["say"])).await;
    // Podman reports it as its own error, so another worker may succeed.
    let failure = ended.failure();
    let kinds = [CauseKind::Image, CauseKind::Preempted];
    assert!(
        kinds.contains(&failure.cause.kind) && failure.message.contains("no-such"),
        "{failure}"
    );
    assert_eq!((ended.was_started, worker.n_left().await, worker.n_directories()), (false, 0, 0));
}
