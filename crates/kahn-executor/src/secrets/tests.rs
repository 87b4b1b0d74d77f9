//! An attempt gets the secrets that its work names, and they are not disclosed.

use std::path::PathBuf;
use std::sync::Mutex;

use async_trait::async_trait;
use kahn_model::{Action, ActionKind, AttemptId, Outputs, RunId, SecretTarget, TaskIx, Work};

use super::*;
use crate::control;
use crate::logs::{LOG_BYTES_MAX, LogDir};

/// Records its variables, prints them, and fails with them.
#[derive(Default)]
struct LeakingExecutor(Mutex<Vec<(String, String)>>);

#[async_trait]
impl Executor for LeakingExecutor {
    fn kind(&self) -> ActionKind {
        ActionKind::Process
    }

    async fn run(&self, assignment: Assignment, _control: Control) -> Report {
        let given = assignment.variables().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let given: Vec<_> = given.collect();
        assignment.logs.append(format!("{given:?}").as_bytes());
        assignment.logs.seal();
        let failure = Failure::new(Cause::exit_code(1), &format!("{given:?} {assignment:?}"));
        self.0.lock().unwrap().extend(given);
        Report::not_run(failure)
    }
}

struct Rig {
    dir: tempfile::TempDir,
    secrets: Arc<Secrets>,
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let in_variable =
            |name: &str| SecretSettings { env: Some(name.to_owned()), ..SecretSettings::default() };
        let in_file =
            SecretSettings { file: Some(dir.path().join("secret")), ..SecretSettings::default() };
        let restricted = SecretSettings {
            namespaces: Some(vec!["prod".to_owned(), "etl".to_owned()]),
            ..in_variable("RESTRICTED")
        };
        let config = BTreeMap::from([
            ("fixed".to_owned(), in_variable("FIXED")),
            ("file".to_owned(), in_file),
            ("restricted".to_owned(), restricted),
        ]);
        let environment = [
            ("FIXED".into(), "fixed-value".into()),
            ("RESTRICTED".into(), "restricted-value".into()),
        ];
        let secrets = Secrets::open(&config, &environment, None, dir.path()).unwrap();
        Self { secrets: Arc::new(secrets), dir }
    }

    /// Returns what the task received, what was reported, and its log.
    async fn run(&self, uses: &[(SecretTarget, &str)]) -> (Vec<(String, String)>, Failure, String) {
        self.run_in(Some("default"), uses).await
    }

    async fn run_in(
        &self,
        namespace: Option<&str>,
        uses: &[(SecretTarget, &str)],
    ) -> (Vec<(String, String)>, Failure, String) {
        let mut work = Work::new(Action::Noop);
        work.secrets = uses
            .iter()
            .map(|(target, name)| SecretUse {
                target: target.clone(),
                prefix: if matches!(target, SecretTarget::File(_)) { "" } else { "p:" }.into(),
                secret: name.parse().unwrap(),
            })
            .collect();
        let run = RunId::from_slice(&[1; 16]).unwrap();
        let attempt = AttemptId { run, task: TaskIx(0), number: 1 };
        let logs = LogDir::open(&self.dir.path().join("logs"), LOG_BYTES_MAX).unwrap();
        let assignment = Assignment {
            attempt,
            namespace: namespace.map(|name| name.parse().unwrap()),
            task_name: "task".to_owned(),
            work: work.into(),
            env: Vec::new(),
            secrets: GivenSecrets::none(),
            resources: Arc::default(),
            timeouts: kahn_model::Timeouts::default(),
            logs: Arc::new(logs.writer(attempt)),
            is_resumed: false,
        };
        let mut reader = assignment.logs.reader(0);
        let executor = Arc::new(LeakingExecutor::default());
        let (_stopper, control) = control(|| ());
        let carried_out =
            Arc::clone(&self.secrets).carry_out(executor.clone(), assignment, control);
        let failure = carried_out.await.outcome.unwrap_err();
        let mut log = Vec::new();
        while let Some(chunk) = reader.next().await.unwrap() {
            log.extend_from_slice(&chunk.bytes);
        }
        let seen = std::mem::take(&mut *executor.0.lock().unwrap());
        (seen, failure, String::from_utf8(log).unwrap())
    }
}

fn variable(name: &str) -> SecretTarget {
    SecretTarget::Variable(name.into())
}

#[tokio::test]
async fn a_secret_that_changes_is_used_from_the_next_attempt_on() {
    let rig = Rig::new();
    for value in ["first-value", "other-value"] {
        std::fs::write(rig.dir.path().join("secret"), format!("{value}\n")).unwrap();
        let (seen, failure, log) = rig.run(&[(variable("A"), "file")]).await;
        assert_eq!(seen, [("A".to_owned(), format!("p:{value}"))]);
        assert_eq!(log, "[(\"A\", \"p:***\")]");
        assert!(failure.message.contains("p:***") && !failure.message.contains(value));
    }
}

#[tokio::test]
async fn a_file_holds_a_secret_for_as_long_as_its_attempt() {
    let rig = Rig::new();
    let uses = [(SecretTarget::File("A".into()), "fixed"), (variable("B"), "fixed")];
    let (seen, _, _) = rig.run(&uses).await;
    let path = PathBuf::from(&seen[0].1);
    assert_eq!((seen[0].0.as_str(), path.file_name()), ("A", Some("A".as_ref())));
    assert!(!path.exists() && !path.parent().unwrap().exists());
    let (_, failure, _) = rig.run(&[(SecretTarget::File("../A".into()), "fixed")]).await;
    assert_eq!(failure.cause.kind, CauseKind::Image);
}

#[tokio::test]
async fn what_cannot_be_given_is_named_and_nothing_is_run() {
    let rig = Rig::new();
    let (seen, failure, log) = rig.run(&[(variable("A"), "other")]).await;
    assert_eq!((seen.len(), failure.cause.kind, log.as_str()), (0, CauseKind::Infeasible, ""));
    assert!(failure.message.contains("no secret `other`"), "{failure}");

    let (seen, failure, _) = rig.run(&[(variable("A"), "fixed"), (variable("B"), "file")]).await;
    assert_eq!((seen.len(), failure.cause.kind), (0, CauseKind::Image));
    assert!(failure.message.contains("secret `file`"), "{failure}");
    assert!(!failure.message.contains(rig.dir.path().to_str().unwrap()), "{failure}");
}

#[tokio::test]
async fn a_restricted_secret_is_given_to_its_namespaces_alone() {
    let rig = Rig::new();
    for namespace in ["prod", "etl"] {
        let (seen, ..) = rig.run_in(Some(namespace), &[(variable("A"), "restricted")]).await;
        assert_eq!(seen, [("A".to_owned(), "p:restricted-value".to_owned())]);
    }
    // Not even together with a secret that it may use.
    let both = [(variable("A"), "fixed"), (variable("B"), "restricted")];
    for namespace in [Some("dev"), Some("pro"), None] {
        let (seen, failure, log) = rig.run_in(namespace, &both).await;
        assert_eq!((seen.len(), failure.cause.kind), (0, CauseKind::Policy), "{failure}");
        assert!(failure.message.contains("secret `restricted`"), "{failure}");
        assert!(failure.message.contains(namespace.unwrap_or("too old")), "{failure}");
        assert!(!failure.message.contains("prod") && log.is_empty(), "{failure}");
    }
}

#[test]
fn a_label_says_which_namespaces_may_use_a_secret() {
    let labels = [("fixed", ""), ("file", ""), ("restricted", "etl,prod")];
    let expected = labels.map(|(name, value)| (format!("secret/{name}"), value.to_owned()));
    assert_eq!(Rig::new().secrets.labels().collect::<BTreeMap<_, _>>(), expected.into());
}

#[test]
fn outputs_that_hold_no_secret_stay_as_they_are() {
    let outputs = Outputs([("a".into(), kahn_model::Value::from_json("[1]"))].into());
    assert_eq!(Mask::new(["fixed-value"]).checked(outputs.clone()), Ok(outputs));
}

#[test]
fn a_name_that_is_none_and_a_missing_variable_stop_the_start() {
    for (name, expected) in [("../x", "worker.secrets.../x"), ("x", "no variable `NOT_THERE`")] {
        let settings =
            SecretSettings { env: Some("NOT_THERE".to_owned()), ..SecretSettings::default() };
        let config = BTreeMap::from([(name.to_owned(), settings)]);
        let refused = Secrets::open(&config, &[], None, "/nowhere".as_ref()).unwrap_err();
        assert!(refused.to_string().contains(expected), "{refused}");
    }
}
