//! The pods that attempts become.

use kahn_executor::testing::Assignments;
use kahn_model::{
    Action, CauseKind, Container, PodOptions, PodVolume, SecretTarget, SecretUse, Timeouts,
    VolumeSource, Work,
};
use serde_json::{Value, json};

use super::*;
use crate::settings::Allowed;

fn owner() -> Owner {
    Owner {
        labels: names::of_worker(&"w".parse().unwrap()),
        reference: None,
        grace: Duration::from_secs(10),
    }
}

fn asked(options: PodOptions) -> Asked {
    let container = Container {
        image: Text::new("image:1"),
        args: vec![Text::new("echo"), Text::new("$(HOME) $$ $x")],
        ..Container::default()
    };
    Asked { container, options }
}

fn assignment(asked: &Asked) -> Assignment {
    let dir = tempfile::tempdir().unwrap();
    Assignments::new(dir.path()).next(Work::new(Action::Pod(Box::new(asked.clone()))))
}

fn everything() -> Allowed {
    let all = || vec!["*".to_owned()];
    Allowed {
        images: all(),
        service_accounts: all(),
        node_selectors: all(),
        tolerations: all(),
        labels: all(),
        annotations: all(),
        claims: all(),
        config_maps: all(),
        secrets: all(),
        image_pull_secrets: all(),
        priority_classes: all(),
        runtime_classes: all(),
    }
}

fn planned(assignment: &Assignment, asked: &Asked) -> Result<Value, Failure> {
    let settings = KubernetesSettings { allow: everything(), ..KubernetesSettings::default() };
    pod(assignment, asked, &owner(), &settings).map(|pod| serde_json::to_value(pod).unwrap())
}

#[test]
fn pods_are_confined_and_run_once() {
    let asked = asked(PodOptions::default());
    let pod = planned(&assignment(&asked), &asked).unwrap();
    let spec = &pod["spec"];
    assert_eq!(spec["restartPolicy"], "Never");
    assert_eq!(spec["automountServiceAccountToken"], false);
    assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
    assert_eq!(spec["securityContext"]["runAsUser"], 65532);
    assert_eq!(spec["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    let confined = json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": { "drop": ["ALL"] },
    });
    assert_eq!(spec["containers"][0]["securityContext"], confined);
    assert_eq!(spec["containers"][0]["volumeMounts"][0]["mountPath"], "/tmp");
    assert_eq!(pod["metadata"]["labels"]["kahn/attempt"], "1");
}

#[test]
fn kubernetes_replaces_nothing_in_commands_and_variables() {
    let asked = asked(PodOptions::default());
    let mut assignment = assignment(&asked);
    assignment.env = vec![("A".into(), "$(B)".into()), ("B".into(), "$$".into())];
    let pod = planned(&assignment, &asked).unwrap();
    let container = &pod["spec"]["containers"][0];
    assert_eq!(container["args"], json!(["echo", "$$(HOME) $$$$ $$x"]));
    let env = container["env"].as_array().unwrap();
    assert!(env.contains(&json!({ "name": "A", "value": "$$(B)" })), "{env:?}");
    assert!(env.contains(&json!({ "name": "B", "value": "$$$$" })), "{env:?}");
}

#[test]
fn everything_that_a_task_asks_for_is_in_its_pod() {
    let pair = |name: &str, value: &str| (name.into(), value.into());
    let volume =
        |source, target: &str| PodVolume { source, target: target.into(), is_writable: false };
    let asked = asked(PodOptions {
        service_account: Some("reader".into()),
        node_selector: vec![pair("disk", "ssd")],
        tolerations: vec![
            Toleration { key: "spot".into(), value: None, effect: Some(TaintEffect::NoSchedule) },
            Toleration { key: "gpu".into(), value: Some("yes".into()), effect: None },
        ],
        labels: vec![pair("team", "a")],
        annotations: vec![pair("note", "b")],
        volumes: vec![
            volume(VolumeSource::Claim("data".into()), "/data"),
            volume(VolumeSource::ConfigMap("settings".into()), "/etc/settings"),
            volume(VolumeSource::Secret("keys".into()), "/keys"),
            PodVolume { is_writable: true, ..volume(VolumeSource::Empty, "/tmp") },
        ],
        image_pull_secrets: vec!["registry".into()],
        priority_class: Some("low".into()),
        runtime_class: Some("gvisor".into()),
    });
    let mut assignment = assignment(&asked);
    assignment.resources = "cpu=1.5,memory=1Gi,gpu=2".parse::<Resources>().unwrap().into();
    assignment.timeouts = Timeouts { run: Some(Duration::from_secs(5)), ..Timeouts::default() };
    let pod = planned(&assignment, &asked).unwrap();
    let spec = &pod["spec"];
    assert_eq!(spec["serviceAccountName"], "reader");
    assert_eq!(spec["automountServiceAccountToken"], true);
    assert_eq!(spec["nodeSelector"], json!({ "disk": "ssd" }));
    let tolerations = json!([
        { "key": "spot", "operator": "Exists", "effect": "NoSchedule" },
        { "key": "gpu", "operator": "Equal", "value": "yes" },
    ]);
    assert_eq!(spec["tolerations"], tolerations);
    assert_eq!(pod["metadata"]["labels"]["team"], "a");
    assert_eq!(pod["metadata"]["annotations"]["note"], "b");
    assert_eq!(spec["imagePullSecrets"], json!([{ "name": "registry" }]));
    assert_eq!(
        (&spec["priorityClassName"], &spec["runtimeClassName"]),
        (&json!("low"), &json!("gvisor"))
    );
    assert_eq!(spec["volumes"].as_array().unwrap().len(), 4);
    assert_eq!(spec["volumes"][0]["persistentVolumeClaim"]["readOnly"], true);
    let limits = json!({ "cpu": "1500m", "memory": "1073741824", "nvidia.com/gpu": "2" });
    assert_eq!(spec["containers"][0]["resources"], json!({ "limits": limits, "requests": limits }));
    // The timeout, the grace, the time to start, and a minute.
    assert_eq!(spec["activeDeadlineSeconds"], 5 + 10 + 600 + 60);
}

#[test]
fn parts_of_graphics_processors_are_refused() {
    let asked = asked(PodOptions::default());
    let mut assignment = assignment(&asked);
    assignment.resources = "gpu=0.5".parse::<Resources>().unwrap().into();
    assert_eq!(planned(&assignment, &asked).unwrap_err().cause.kind, CauseKind::Image);
}

#[test]
fn secret_files_are_mounted_where_tasks_look_for_them() {
    let asked = asked(PodOptions::default());
    let mut work = Work::new(Action::Pod(Box::new(asked.clone())));
    work.secrets = vec![SecretUse {
        target: SecretTarget::File("KEY".into()),
        prefix: "".into(),
        secret: "key".parse().unwrap(),
    }];
    let assignment = Assignment { work: work.into(), ..assignment(&asked) };
    let pod = planned(&assignment, &asked).unwrap();
    let name = pod["metadata"]["name"].as_str().unwrap();
    let volume = &pod["spec"]["volumes"][1]["secret"];
    assert_eq!(volume["secretName"], name);
    assert_eq!(volume["items"], json!([{ "key": "file.KEY", "path": "KEY" }]));
    assert_eq!(pod["spec"]["containers"][0]["volumeMounts"][1]["mountPath"], "/run/kahn-secrets");
}
