//! Tests of layers, refusals and `show`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::*;
use crate::secret::Secret;

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Coordinator {
    listen: String,
    partitions: u16,
    peers: Vec<String>,
    labels: BTreeMap<String, String>,
    token: Option<Secret>,
    redis: Redis,
    #[serde(with = "crate::human_duration")]
    lease: Duration,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Redis {
    url: String,
    is_cluster: bool,
}

impl Default for Coordinator {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7700".to_owned(),
            partitions: 16,
            peers: Vec::new(),
            labels: BTreeMap::new(),
            token: None,
            redis: Redis::default(),
            lease: Duration::from_secs(15),
        }
    }
}

struct Case {
    directory: tempfile::TempDir,
    sources: Sources,
}

fn case(file: &str, variables: &[(&str, &str)]) -> Case {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kahn.toml");
    std::fs::write(&path, file).unwrap();
    let environment = Environment::from_pairs(variables.iter().copied());
    let sources = Sources::new(&["coordinator", "worker"], environment).file(path);
    Case { directory, sources }
}

impl Case {
    fn load(&self) -> Coordinator {
        load("coordinator", &self.sources).unwrap()
    }

    /// The refusal, with the directory of the file left out.
    fn refusal(&self) -> String {
        let error = load::<Coordinator>("coordinator", &self.sources).unwrap_err();
        error.to_string().replace(&format!("{}/", self.directory.path().display()), "")
    }
}

#[test]
fn defaults_hold_where_nothing_is_set() {
    let sources = Sources::new(&["coordinator"], Environment::default())
        .file_if_present("/does/not/exist/kahn.toml");
    let config: Coordinator = load("coordinator", &sources).unwrap();
    assert_eq!((config.listen.as_str(), config.partitions), ("127.0.0.1:7700", 16));
    assert_eq!(config.lease, Duration::from_secs(15));
}

#[test]
fn each_layer_covers_the_one_below() {
    let file = "
        [coordinator]
        listen = 'file'
        partitions = 1
        lease = '20s'
        redis.url = 'redis://file'
        [profile.production.coordinator]
        listen = 'profile'
        partitions = 2
        redis.is_cluster = true
        [profile.staging.coordinator]
        listen = 'another profile'
    ";
    let case = case(
        file,
        &[
            ("KAHN_ENV", "production"),
            ("KAHN_COORDINATOR__PARTITIONS", "3"),
            ("KAHN_COORDINATOR__REDIS__URL", "redis://variable"),
        ],
    );
    let sources = case.sources.clone().set("coordinator.redis.url", "--redis", "redis://flag");
    assert_eq!(case.load().redis.url, "redis://variable");
    let config: Coordinator = load("coordinator", &sources).unwrap();
    assert_eq!(config.lease, Duration::from_secs(20));
    assert_eq!((config.listen.as_str(), config.partitions), ("profile", 3));
    assert_eq!((config.redis.url.as_str(), config.redis.is_cluster), ("redis://flag", true));
}

#[test]
fn lists_and_maps_can_be_given_as_text() {
    let variables = [
        ("KAHN_COORDINATOR__PEERS", "a:1, b:2"),
        ("KAHN_COORDINATOR__LABELS", "{ zone = 'eu' }"),
        ("KAHN_COORDINATOR__LABELS__DISK", "ssd"),
    ];
    let config = case("coordinator.peers = ['c:3']", &variables).load();
    assert_eq!(config.peers, ["a:1", "b:2"]);
    assert_eq!(config.labels["zone"], "eu");
    assert_eq!(config.labels["disk"], "ssd");
    assert_eq!(case("", &[("KAHN_COORDINATOR__PEERS", "['x,y']")]).load().peers, ["x,y"]);
}

#[test]
fn variables_that_are_not_configuration_are_left_alone() {
    let variables = [
        ("KAHN_RUN_ID", "r"),
        ("KAHN_COORDINATOR_PORT", "tcp://10.0.0.1:7700"),
        ("KAHN_COORDINATOR__LISTEN", ""),
        ("PATH", "/bin"),
    ];
    assert_eq!(case("", &variables).load().listen, "127.0.0.1:7700");
}

#[test]
fn an_unknown_key_is_refused_with_its_place_and_the_nearest_key() {
    for (file, variables, refusal) in [
        (
            "[coordinator]\nlisen = 'x'",
            &[][..],
            "unknown key `coordinator.lisen` in kahn.toml:2; did you mean `coordinator.listen`?",
        ),
        (
            "\n[coordinator.redis]\n\nurls = 'x'",
            &[],
            "unknown key `coordinator.redis.urls` in kahn.toml:4; \
             did you mean `coordinator.redis.url`?",
        ),
        (
            "",
            &[("KAHN_COORDINATOR__REDIS__URI", "x")],
            "unknown key `coordinator.redis.uri` in environment variable \
             KAHN_COORDINATOR__REDIS__URI; did you mean `KAHN_COORDINATOR__REDIS__URL`?",
        ),
        (
            "[profile.production.coordinator]\nlisen = 'x'",
            &[("KAHN_ENV", "production")],
            "unknown key `coordinator.lisen` in kahn.toml:2; did you mean `coordinator.listen`?",
        ),
    ] {
        assert_eq!(case(file, variables).refusal(), refusal);
    }
}

#[test]
fn unknown_sections_and_profiles_are_refused() {
    for (file, variables, refusal) in [
        (
            "[coordinatr]",
            &[][..],
            "unknown section `coordinatr` in kahn.toml:1; did you mean `coordinator`?",
        ),
        (
            "[profile.prod.worker]",
            &[],
            "unknown profile `profile.prod` in kahn.toml:1; did you mean `production`?",
        ),
        (
            "[profile.staging.workr]",
            &[],
            "unknown section `profile.staging.workr` in kahn.toml:1; did you mean `worker`?",
        ),
        (
            "",
            &[("KAHN_ENV", "producton")],
            "unknown profile `producton` in environment variable KAHN_ENV; \
             did you mean `production`?",
        ),
        (
            "",
            &[("KAHN_WORKR__LISTEN", "x")],
            "unknown section `workr` in environment variable KAHN_WORKR__LISTEN; \
             did you mean `worker`?",
        ),
        (
            "",
            &[("KAHN_ENV", "qa")],
            "unknown profile `qa` in environment variable KAHN_ENV; known names, most similar first: \
             `staging`, `production`, `development`",
        ),
        ("coordinator = 1", &[], "kahn.toml:1: section `coordinator` is not a table"),
    ] {
        assert_eq!(case(file, variables).refusal(), refusal);
    }
}

#[test]
fn wrong_types_name_the_key_and_its_place() {
    let refusal = case("[coordinator]\n\npartitions = 'many'", &[]).refusal();
    assert!(refusal.contains("`partitions`") && refusal.contains("kahn.toml:3"), "{refusal}");
    let refusal = case("", &[("KAHN_COORDINATOR__REDIS__IS_CLUSTER", "maybe")]).refusal();
    assert!(refusal.contains("`redis.is_cluster`"), "{refusal}");
    assert!(refusal.contains("variable KAHN_COORDINATOR__REDIS__IS_CLUSTER"), "{refusal}");
    let refusal = case("coordinator.lease = '15'", &[]).refusal();
    assert!(refusal.contains("`lease`") && refusal.contains("500ms"), "{refusal}");
}

#[test]
fn a_broken_or_missing_file_is_refused_without_being_quoted() {
    let refusal = case("[coordinator]\ntoken = 'hunter2", &[]).refusal();
    assert!(refusal.starts_with("kahn.toml:2: "), "{refusal}");
    assert!(!refusal.contains("hunter2"), "{refusal}");
    let sources = Sources::new(&["coordinator"], Environment::default()).file("/no/such.toml");
    let error = load::<Coordinator>("coordinator", &sources).unwrap_err();
    assert!(matches!(error, ConfigError::Unreadable { .. }));
}

#[test]
fn shown_configuration_masks_secrets_and_loads_again_without_them() {
    let file = "
        [coordinator]
        token = 'hunter2'
        redis.url = 'redis://:hunter2@host'
    ";
    let config = case(file, &[]).load();
    assert_eq!(config.token.as_ref().unwrap().expose(), "hunter2");
    let shown = show("coordinator", &config).unwrap();
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("redis://:********@host"), "{shown}");
    let without_token = shown.replace("token = \"********\"\n", "");
    assert_ne!(shown, without_token);
    assert_eq!(case(&without_token, &[]).load().partitions, 16);
}

#[test]
fn the_environment_shows_no_values() {
    let environment = Environment::from_pairs([("KAHN_COORDINATOR__TOKEN", "hunter2")]);
    let shown = format!("{:?}", Sources::new(&[], environment).set("a.b", "--b", "hunter2"));
    assert!(shown.contains("KAHN_COORDINATOR__TOKEN") && !shown.contains("hunter2"), "{shown}");
}
