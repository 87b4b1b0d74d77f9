//! An executor that uses the test engine, a test image, and functions to find leftovers.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bollard::models::NetworkCreateRequest;
use bollard::query_parameters::{CreateImageOptions, ListContainersOptions};
use bollard::{API_DEFAULT_VERSION, Docker, body_full};
use kahn_executor::Assignment;
use kahn_executor::testing::{self, Assignments, Ended, Running};
use kahn_executor_container::{ContainerExecutor, ContainerSettings};
use kahn_model::{Action, Cause, CauseKind, Container, PullPolicy, Text, Work, WorkerId};
use tokio::sync::OnceCell;

/// The variable that names the socket of the test engine.
const ENGINE_VARIABLE: &str = "KAHN_TEST_ENGINE";
/// The image that contains and runs `prog.c`.
pub(crate) const IMAGE: &str = "kahn-test:latest";

pub(crate) struct Worker {
    dir: tempfile::TempDir,
    name: String,
    settings: ContainerSettings,
    assignments: Assignments,
    executor: Arc<ContainerExecutor>,
}

/// Returns the socket of the test engine. Prints a message if there is none.
#[expect(clippy::print_stdout, reason = "a test that did nothing says so")]
pub(crate) fn socket() -> Option<PathBuf> {
    let socket = std::env::var_os(ENGINE_VARIABLE).filter(|socket| !socket.is_empty());
    if socket.is_none() {
        println!("NOT RUN: container tests: {ENGINE_VARIABLE} names no engine");
    }
    socket.map(|socket| {
        let text = socket.to_str().unwrap();
        text.strip_prefix("unix://").unwrap_or(text).into()
    })
}

pub(crate) fn settings(socket: &Path) -> ContainerSettings {
    ContainerSettings {
        engine: Some(socket.to_owned()),
        network: "none".into(),
        ..ContainerSettings::default()
    }
}

fn docker(socket: &Path) -> Docker {
    Docker::connect_with_unix(socket.to_str().unwrap(), 120, API_DEFAULT_VERSION).unwrap()
}

/// Builds the image once for all tests.
async fn ensure_image(socket: &Path) {
    static MADE: OnceCell<()> = OnceCell::const_new();
    MADE.get_or_init(|| async {
        let dir = tempfile::tempdir().unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/container/prog.c");
        let prog = dir.path().join("prog");
        let mut compile = Command::new("cc");
        compile.args(["-static", "-O1", "-o"]).arg(&prog).arg(source);
        assert!(compile.status().unwrap().success(), "cannot compile {source}");
        let archive = Command::new("tar").args(["-c", "-C"]).arg(dir.path()).arg("prog").output();
        let archive = archive.unwrap().stdout;
        assert!(!archive.is_empty());
        let (repo, tag) = IMAGE.split_once(':').unwrap();
        let options = CreateImageOptions {
            from_src: Some("-".into()),
            repo: Some(repo.into()),
            tag: Some(tag.into()),
            changes: vec![r#"ENTRYPOINT ["/prog"]"#.into()],
            ..CreateImageOptions::default()
        };
        let docker = docker(socket).negotiate_version().await.unwrap();
        let mut making = std::pin::pin!(docker.create_image(
            Some(options),
            Some(body_full(archive.into())),
            None
        ));
        while let Some(step) = tokio_stream::StreamExt::next(&mut making).await {
            step.unwrap();
        }
    })
    .await;
}

/// A container of the test image with these arguments.
pub(crate) fn prog(args: &[&str]) -> Container {
    Container {
        image: Text::new(IMAGE),
        pull: PullPolicy::Never,
        args: args.iter().map(|arg| Text::new(*arg)).collect(),
        ..Container::default()
    }
}

impl Worker {
    /// A worker with a unique name, or `None` if there is no engine.
    pub(crate) async fn new() -> Option<Self> {
        Self::with(|_| ()).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut ContainerSettings)) -> Option<Self> {
        let socket = socket()?;
        ensure_image(&socket).await;
        let mut settings = settings(&socket);
        change(&mut settings);
        let dir = tempfile::tempdir().unwrap();
        let name = format!("test-{}", dir.path().file_name().unwrap().to_str().unwrap());
        Some(Self::open(dir, name.replace('.', ""), settings))
    }

    pub(crate) fn open(dir: tempfile::TempDir, name: String, settings: ContainerSettings) -> Self {
        let id: WorkerId = name.parse().unwrap();
        let home = dir.path().join("containers");
        let grace = Duration::from_secs(30);
        let executor = ContainerExecutor::open(settings.clone(), &id, &home, grace).unwrap();
        Self {
            assignments: Assignments::new(&dir.path().join("logs")),
            executor: Arc::new(executor),
            dir,
            name,
            settings,
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Returns what the next boot of the worker needs.
    pub(crate) fn into_parts(self) -> (tempfile::TempDir, String, ContainerSettings) {
        (self.dir, self.name, self.settings)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The number of containers of this worker, including dead ones.
    pub(crate) async fn n_left(&self) -> usize {
        n_containers(self.settings.engine.as_deref().unwrap(), &self.name).await
    }

    /// The number of attempt directories.
    pub(crate) fn n_directories(&self) -> usize {
        let entries = std::fs::read_dir(self.dir.path().join("containers")).unwrap();
        entries.filter(|entry| entry.as_ref().unwrap().path().is_dir()).count()
    }

    pub(crate) fn assignment(&self, container: Container) -> Assignment {
        self.assignments.next(Work::new(Action::Container(Box::new(container))))
    }

    pub(crate) async fn run(&self, container: Container) -> Ended {
        self.carry_out(self.assignment(container)).await
    }

    pub(crate) async fn carry_out(&self, assignment: Assignment) -> Ended {
        self.start(assignment).ended().await
    }

    pub(crate) fn start(&self, assignment: Assignment) -> Running {
        testing::start(&self.executor, assignment)
    }

    pub(crate) async fn stop_when_up(&self, assignment: Assignment, reason: CauseKind) -> Ended {
        self.start(assignment).stop_when_printed("up\n", reason).await
    }
}

/// The number of containers of all workers with this name, including dead ones.
pub(crate) async fn n_containers(socket: &Path, worker: &str) -> usize {
    let labels = vec![format!("dev.kahn.worker={worker}")];
    let options = ListContainersOptions {
        all: true,
        filters: Some([("label".to_owned(), labels)].into()),
        ..ListContainersOptions::default()
    };
    let docker = docker(socket).negotiate_version().await.unwrap();
    docker.list_containers(Some(options)).await.unwrap().len()
}

/// A separate network for one test.
pub(crate) struct Network {
    docker: Docker,
    name: String,
}

impl Network {
    pub(crate) async fn new() -> Option<Self> {
        let docker = docker(&socket()?).negotiate_version().await.unwrap();
        let name = format!("kahn-test-{}", std::process::id());
        let request =
            NetworkCreateRequest { name: name.clone(), ..NetworkCreateRequest::default() };
        docker.create_network(request).await.unwrap();
        Some(Self { docker, name })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) async fn remove(self) {
        self.docker.remove_network(&self.name).await.unwrap();
    }
}

/// Asserts the kind of cause and that the message contains all of `words`.
pub(crate) fn fails_with(ended: &Ended, kind: CauseKind, words: &[&str]) {
    let failure = ended.failure();
    assert_eq!(failure.cause, Cause::of(kind), "{failure}");
    for word in words {
        assert!(failure.message.contains(word), "{failure}");
    }
}
