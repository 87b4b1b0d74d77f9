//! Checks what a task asks for against what the operator allows.

use kahn_executor::failure::forbidden;
use kahn_model::{Failure, PodOptions, VolumeSource};

use super::settings::{Allowed, KubernetesSettings};
use kahn_executor::failure::cannot_start;

/// The prefix of labels and annotations that Kahn itself sets.
const OWN: [&str; 2] = ["kahn/", "app.kubernetes.io/"];

/// Checks the image and the options of a pod.
pub(super) fn check(image: &str, pod: &PodOptions, allowed: &Allowed) -> Result<(), Failure> {
    let names = |names: &[(Box<str>, Box<str>)]| -> Vec<String> {
        names.iter().map(|(name, _)| name.to_string()).collect()
    };
    let one =
        |name: &Option<Box<str>>| -> Vec<String> { name.iter().map(ToString::to_string).collect() };
    let volumes = |wanted: fn(&VolumeSource) -> Option<&str>| -> Vec<String> {
        let found = pod.volumes.iter().filter_map(|volume| wanted(&volume.source));
        found.map(str::to_owned).collect()
    };
    let pull_secrets = pod.image_pull_secrets.iter().map(ToString::to_string).collect();
    let tolerations = pod.tolerations.iter().map(|toleration| toleration.key.to_string()).collect();
    let asked: [(&str, &str, Vec<String>, &[String]); 12] = [
        ("the image", "images", vec![image.to_owned()], &allowed.images),
        (
            "the service account",
            "service_accounts",
            one(&pod.service_account),
            &allowed.service_accounts,
        ),
        (
            "to select nodes by",
            "node_selectors",
            names(&pod.node_selector),
            &allowed.node_selectors,
        ),
        ("to tolerate", "tolerations", tolerations, &allowed.tolerations),
        ("the label", "labels", names(&pod.labels), &allowed.labels),
        ("the annotation", "annotations", names(&pod.annotations), &allowed.annotations),
        ("the claim", "claims", volumes(VolumeSource::as_claim), &allowed.claims),
        (
            "the config map",
            "config_maps",
            volumes(VolumeSource::as_config_map),
            &allowed.config_maps,
        ),
        ("the secret", "secrets", volumes(VolumeSource::as_secret), &allowed.secrets),
        ("to pull images with", "image_pull_secrets", pull_secrets, &allowed.image_pull_secrets),
        (
            "the priority class",
            "priority_classes",
            one(&pod.priority_class),
            &allowed.priority_classes,
        ),
        ("the runtime class", "runtime_classes", one(&pod.runtime_class), &allowed.runtime_classes),
    ];
    for (what, list, names, allowed) in asked {
        if let Some(name) = names.iter().find(|name| !is_allowed(name, allowed)) {
            return Err(forbidden(&format!(
                "this worker does not allow {what} `{name}`; its operator lists what it allows in \
                 worker.kubernetes.allow.{list}"
            )));
        }
    }
    let own = pod.labels.iter().chain(&pod.annotations).find(|(name, _)| is_own(name));
    match own {
        Some((name, _)) => Err(forbidden(&format!("`{name}` is set by Kahn, not by tasks"))),
        None => Ok(()),
    }
}

fn is_own(name: &str) -> bool {
    OWN.iter().any(|prefix| name.starts_with(prefix))
}

fn is_allowed(name: &str, allowed: &[String]) -> bool {
    allowed.iter().any(|allowed| match allowed.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == allowed,
    })
}

/// Returns the user and the group of a container. A user without a group has group 0, which is
/// usual for images that run under any user.
pub(super) fn user(
    user: Option<&str>,
    settings: &KubernetesSettings,
) -> Result<(i64, i64), Failure> {
    let user = user.unwrap_or(&settings.user);
    let (uid, gid) = user.split_once(':').unwrap_or((user, "0"));
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u32>());
    let (Some(Ok(uid)), Some(Ok(gid))) = (number(uid), number(gid)) else {
        return Err(cannot_start(&format!("{user:?} is not a user: write `uid` or `uid:gid`")));
    };
    if uid == 0 && !settings.allow_root {
        return Err(forbidden(
            "this worker runs no container as root; worker.kubernetes.allow_root would allow it",
        ));
    }
    Ok((uid.into(), gid.into()))
}

#[cfg(test)]
mod tests {
    use kahn_model::{CauseKind, PodVolume, Toleration};

    use super::*;

    fn refused(pod: &PodOptions, allowed: &Allowed) -> String {
        let failure = check("image", pod, allowed).unwrap_err();
        assert_eq!(failure.cause.kind, CauseKind::Policy);
        failure.message.to_string()
    }

    #[test]
    fn nothing_but_images_is_allowed_unless_the_operator_lists_it() {
        let volume = |source| PodVolume { source, target: "/x".into(), is_writable: false };
        let named = || vec![("name".into(), "value".into())];
        let none = PodOptions::default;
        let toleration = Toleration { key: "spot".into(), value: None, effect: None };
        let asked = [
            ("service_accounts", PodOptions { service_account: Some("a".into()), ..none() }),
            ("node_selectors", PodOptions { node_selector: named(), ..none() }),
            ("tolerations", PodOptions { tolerations: vec![toleration], ..none() }),
            ("labels", PodOptions { labels: named(), ..none() }),
            ("annotations", PodOptions { annotations: named(), ..none() }),
            (
                "claims",
                PodOptions { volumes: vec![volume(VolumeSource::Claim("c".into()))], ..none() },
            ),
            (
                "config_maps",
                PodOptions { volumes: vec![volume(VolumeSource::ConfigMap("c".into()))], ..none() },
            ),
            (
                "secrets",
                PodOptions { volumes: vec![volume(VolumeSource::Secret("s".into()))], ..none() },
            ),
            ("image_pull_secrets", PodOptions { image_pull_secrets: vec!["s".into()], ..none() }),
            ("priority_classes", PodOptions { priority_class: Some("p".into()), ..none() }),
            ("runtime_classes", PodOptions { runtime_class: Some("r".into()), ..none() }),
        ];
        for (list, pod) in asked {
            let message = refused(&pod, &Allowed::default());
            assert!(message.ends_with(&format!("worker.kubernetes.allow.{list}")), "{message}");
        }
        assert_eq!(check("image", &none(), &Allowed::default()), Ok(()));
        let none_at_all = Allowed { images: Vec::new(), ..Allowed::default() };
        assert!(refused(&none(), &none_at_all).contains("the image `image`"));
    }

    #[test]
    fn an_entry_allows_a_name_or_all_names_with_a_beginning() {
        let allowed = Allowed { annotations: vec!["a".into(), "b/*".into()], ..Allowed::default() };
        let with = |name: &str| PodOptions {
            annotations: vec![(name.into(), "".into())],
            ..PodOptions::default()
        };
        for name in ["a", "b/", "b/c"] {
            assert_eq!(check("i", &with(name), &allowed), Ok(()), "{name}");
        }
        for name in ["aa", "b", "A"] {
            refused(&with(name), &allowed);
        }
        let all = Allowed { annotations: vec!["*".into()], ..Allowed::default() };
        assert!(refused(&with("kahn/run"), &all).contains("set by Kahn"));
    }

    #[test]
    fn root_is_refused_unless_it_is_allowed() {
        let settings = KubernetesSettings::default();
        assert_eq!(user(None, &settings), Ok((65532, 65532)));
        assert_eq!(user(Some("7"), &settings), Ok((7, 0)));
        for root in ["0", "00:1"] {
            assert_eq!(user(Some(root), &settings).unwrap_err().cause.kind, CauseKind::Policy);
        }
        for nobody in ["", "root", "+1", "1:"] {
            let failure = user(Some(nobody), &settings).unwrap_err();
            assert_eq!(failure.cause.kind, CauseKind::Image, "{nobody}");
        }
        let settings = KubernetesSettings { allow_root: true, ..settings };
        assert_eq!(user(Some("0"), &settings), Ok((0, 0)));
    }
}
