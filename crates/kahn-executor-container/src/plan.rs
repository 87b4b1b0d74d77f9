//! Converts a task into a request to the engine, within the operator's policy.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, PortBinding, RestartPolicy,
    RestartPolicyNameEnum,
};
use kahn_executor::failure::{cannot_start, forbidden};
use kahn_model::{Container, Failure, Resource, Resources, Text};

use super::directory::OUTPUT_FILE;
use super::mounts::{self, KAHN_DIR};
use super::settings::ContainerSettings;
use kahn_executor::Assignment;

/// The variable that names the outputs file of a task.
const OUTPUT_VARIABLE: &str = "KAHN_OUTPUT";
/// The engine's CPU unit per thousandth of a CPU.
const NANO_CPUS_PER_MILLI: u64 = 1_000_000;
/// The minimum that the engine accepts.
const CPU_MILLI_MIN: u64 = 10;

/// The properties shared by all containers of a worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct SharedSettings<'a> {
    pub(super) settings: &'a ContainerSettings,
    /// Labels that identify the owner of the container.
    pub(super) labels: &'a HashMap<String, String>,
    /// The number of CPUs of the engine.
    pub(super) n_cpus: u64,
}

/// Builds the request body. Outputs are written into `output_dir`.
pub(super) fn body(
    assignment: &Assignment,
    container: &Container,
    shared: SharedSettings<'_>,
    output_dir: &Path,
) -> Result<ContainerCreateBody, Failure> {
    let settings = shared.settings;
    let texts = |texts: &[Text]| -> Option<Vec<String>> {
        let texts: Vec<_> = texts.iter().map(|text| text.as_str().to_owned()).collect();
        (!texts.is_empty()).then_some(texts)
    };
    let user = container.user.as_deref().unwrap_or(&settings.user);
    let (exposed_ports, port_bindings) = ports(container, settings)?;
    let working_dir = assignment.work.working_dir.as_ref();
    Ok(ContainerCreateBody {
        image: Some(container.image.as_str().to_owned()),
        entrypoint: texts(&container.command),
        cmd: texts(&container.args),
        user: Some(check_user(user, settings.allow_root)?),
        env: Some(environment(assignment)?),
        working_dir: working_dir.map(|dir| dir.as_str().to_owned()),
        labels: Some(shared.labels.clone()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        exposed_ports: Some(exposed_ports),
        // Nobody would read the results of the image's health check.
        healthcheck: Some(HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..HealthConfig::default()
        }),
        host_config: Some(HostConfig {
            mounts: Some(all_mounts(assignment, container, settings, output_dir)?),
            port_bindings: Some(port_bindings),
            ..confined(settings, container, &assignment.resources, shared.n_cpus)
        }),
        ..ContainerCreateBody::default()
    })
}

/// Returns the confinement, which tasks cannot change, and the resource limits.
fn confined(
    settings: &ContainerSettings,
    container: &Container,
    resources: &Resources,
    n_cpus: u64,
) -> HostConfig {
    let memory = some_amount(resources.get(&Resource::Memory));
    // Requests may exceed the number of CPUs if the operator allows it, but limits may not.
    let milli = resources.get(&Resource::Cpu).min(n_cpus.saturating_mul(1000));
    let milli = if milli == 0 { 0 } else { milli.max(CPU_MILLI_MIN) };
    let tmp = format!("rw,exec,nosuid,nodev,mode=1777,size={}", settings.tmp_bytes);
    let has_own_tmp =
        container.mounts.iter().any(|mount| mount.target.trim_end_matches('/') == "/tmp");
    HostConfig {
        nano_cpus: some_amount(milli.saturating_mul(NANO_CPUS_PER_MILLI)),
        memory,
        // The sum of memory and swap, so that there is no swap.
        memory_swap: memory,
        pids_limit: Some(settings.pids.into()),
        network_mode: Some(settings.network.clone()),
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        privileged: Some(false),
        readonly_rootfs: Some(true),
        tmpfs: (!has_own_tmp).then(|| HashMap::from([("/tmp".to_owned(), tmp)])),
        ipc_mode: Some("private".to_owned()),
        init: Some(true),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        auto_remove: Some(false),
        // The worker stores the output. A copy in the engine would grow without limit.
        log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
        ..HostConfig::default()
    }
}

/// Converts an amount for the engine. 0 means no limit.
fn some_amount(amount: u64) -> Option<i64> {
    (amount > 0).then(|| i64::try_from(amount).unwrap_or(i64::MAX))
}

/// Checks a user, and adds a group if none is given, because the engine would use root's.
fn check_user(text: &str, allow_root: bool) -> Result<String, Failure> {
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let (uid, gid) = text.split_once(':').unwrap_or((text, text));
    let parsed = [uid, gid].map(|part| part.parse::<u32>().ok().filter(|_| is_number(part)));
    let [Some(uid), Some(gid)] = parsed else {
        return Err(cannot_start(&format!("user `{text}` is neither `uid` nor `uid:gid`")));
    };
    if uid == 0 && !allow_root {
        let message = "root may not run containers: worker.container.allow_root is not set";
        return Err(forbidden(message));
    }
    Ok(format!("{uid}:{gid}"))
}

/// Returns the environment variables, which override those of the image. Later sources win.
fn environment(assignment: &Assignment) -> Result<Vec<String>, Failure> {
    let mut variables: BTreeMap<&str, &str> = assignment.variables().collect();
    let output_file = format!("{KAHN_DIR}/{OUTPUT_FILE}");
    variables.insert(OUTPUT_VARIABLE, &output_file);
    let render = |(name, value): (&str, &str)| {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            let message = format!("environment variable {name:?} has a bad name or holds NUL");
            return Err(cannot_start(&message));
        }
        Ok(format!("{name}={value}"))
    };
    variables.into_iter().map(render).collect()
}

fn all_mounts(
    assignment: &Assignment,
    container: &Container,
    settings: &ContainerSettings,
    output_dir: &Path,
) -> Result<Vec<bollard::models::Mount>, Failure> {
    let asked = container.mounts.iter().map(|mount| mounts::mount(mount, &settings.mounts));
    let secrets = assignment.secrets.with_files(mounts::secrets);
    asked.chain([mounts::outputs(output_dir)]).chain(secrets).collect()
}

type Bindings = HashMap<String, Option<Vec<PortBinding>>>;

fn ports(
    container: &Container,
    settings: &ContainerSettings,
) -> Result<(Vec<String>, Bindings), Failure> {
    let network = &settings.network;
    if !container.ports.is_empty() && matches!(&**network, "none" | "host") {
        let message = format!("no port can be reached: worker.container.network is `{network}`");
        return Err(forbidden(&message));
    }
    let mut bindings = Bindings::new();
    let mut exposed = Vec::new();
    for port in &container.ports {
        let name = format!("{}/tcp", port.container);
        let binding = PortBinding {
            host_ip: Some(settings.port_address.clone()),
            host_port: Some(port.host.to_string()),
        };
        let entry = bindings.entry(name.clone()).or_default();
        entry.get_or_insert_default().push(binding);
        exposed.push(name);
    }
    Ok((exposed, bindings))
}

#[cfg(test)]
mod tests {
    use kahn_model::CauseKind;

    use super::*;

    #[test]
    fn root_is_refused_however_it_is_written() {
        for root in ["0", "0:0", "00", "0:1000"] {
            let failure = check_user(root, false).unwrap_err();
            assert_eq!(failure.cause.kind, CauseKind::Policy);
            assert!(failure.message.contains("allow_root"), "{failure}");
        }
        for nobody in ["", "root", "+0", "-1", "1:", ":1", "1:2:3", "4294967296"] {
            let failure = check_user(nobody, false).unwrap_err();
            assert_eq!(failure.cause.kind, CauseKind::Image, "{nobody}");
        }
        assert_eq!(check_user("0", true).unwrap(), "0:0");
        assert_eq!(check_user("7", false).unwrap(), "7:7");
        assert_eq!(check_user("7:8", false).unwrap(), "7:8");
    }

    #[test]
    fn a_share_of_the_machine_is_a_limit_and_no_share_is_none() {
        let settings = ContainerSettings::default();
        let limits = |resources: &Resources| {
            let config = confined(&settings, &Container::default(), resources, 2);
            (config.nano_cpus, config.memory, config.memory_swap)
        };
        assert_eq!(limits(&Resources::none()), (None, None, None));
        let some = Resources::cpu_milli(1500).with(&Resource::Memory, 1 << 20);
        assert_eq!(limits(&some), (Some(1_500_000_000), Some(1 << 20), Some(1 << 20)));
        let more_than_there_is = Resources::cpu_milli(9000);
        assert_eq!(limits(&more_than_there_is).0, Some(2_000_000_000));
        assert_eq!(limits(&Resources::cpu_milli(1)).0, Some(10_000_000));
    }
}
