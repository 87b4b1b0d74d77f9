//! TLS: who is refused and why, and a cluster whose certificates are replaced while it works.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use kahn_e2e::{
    Answer, Certs, Coordinators, Part, Process, free_port, kahn, kahn_path, wait_until,
};

const TIMEOUT: Duration = Duration::from_secs(60);

/// A coordinator with the embedded store that requires certificates.
struct Coordinator {
    dir: tempfile::TempDir,
    certs: Certs,
    process: Process,
    port: u16,
}

impl Coordinator {
    fn start(client_auth: &str) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let certs = Certs::create(&dir.path().join("certs"))?;
        for name in ["coordinator", "client"] {
            certs.issue(name)?;
        }
        let port = free_port()?;
        let mut command = Command::new(kahn_path());
        command
            .arg("coordinator")
            .args(["--listen", &format!("127.0.0.1:{port}"), "--health-listen", "127.0.0.1:0"])
            .args(["--cert-file", &certs.file("coordinator.pem")])
            .args(["--key-file", &certs.file("coordinator.key")])
            .args(["--client-ca-file", &certs.file("ca.pem")])
            .env("KAHN_COORDINATOR__TLS__CLIENT_AUTH", client_auth)
            .env("KAHN_DATA_DIR", dir.path().join("data"));
        let process = Process::start(command, &dir.path().join("log"))?;
        let coordinator = Self { dir, certs, process, port };
        wait_until("the coordinator to start", TIMEOUT, || {
            coordinator.process.printed().contains("coordinator at https://")
        })?;
        Ok(coordinator)
    }

    fn list(&self, scheme: &str, flags: &[&str]) -> anyhow::Result<Answer> {
        let url = format!("{scheme}://127.0.0.1:{}", self.port);
        let data = self.dir.path().join("data").display().to_string();
        let environment = [("KAHN_COORDINATOR_URL", url), ("KAHN_DATA_DIR", data)]
            .map(|(name, value)| (name.to_owned(), value));
        kahn(&[&["list"], flags].concat(), &environment)
    }
}

#[track_caller]
fn check_refused(answer: &Answer, expected: &str) {
    assert_ne!(answer.code, 0);
    assert!(answer.stderr.contains(expected), "{}", answer.stderr);
}

#[test]
fn a_client_that_is_refused_is_told_what_is_missing() -> anyhow::Result<()> {
    let coordinator = Coordinator::start("required")?;
    let certs = &coordinator.certs;
    let (ca, cert, key) =
        (certs.file("ca.pem"), certs.file("client.pem"), certs.file("client.key"));
    let others = Certs::create(&coordinator.dir.path().join("others"))?;
    others.issue("client")?;
    let (other_ca, other_cert) = (others.file("ca.pem"), others.file("client.pem"));
    let other_key = others.file("client.key");

    let right = ["--ca-file", &ca, "--cert-file", &cert, "--key-file", &key];
    coordinator.list("https", &right)?.ok()?;
    check_refused(&coordinator.list("http", &[])?, "write https:// for it");
    check_refused(&coordinator.list("https", &[])?, "--ca-file");
    check_refused(&coordinator.list("https", &["--ca-file", &other_ca])?, &other_ca);
    check_refused(&coordinator.list("https", &["--ca-file", &ca])?, "--cert-file and --key-file");
    let foreign = ["--ca-file", &ca, "--cert-file", &other_cert, "--key-file", &other_key];
    check_refused(&coordinator.list("https", &foreign)?, "does not know the authority");
    Ok(())
}

#[test]
fn only_workers_need_a_certificate_if_so_configured() -> anyhow::Result<()> {
    let coordinator = Coordinator::start("workers")?;
    let ca = coordinator.certs.file("ca.pem");
    coordinator.list("https", &["--ca-file", &ca])?.ok()?;

    let start = |name: &str, flags: &[&str]| {
        let mut command = Command::new(kahn_path());
        command
            .args(["worker", "--name", name, "--health-listen", "127.0.0.1:0", "--ca-file", &ca])
            .args(["--coordinator", &format!("https://127.0.0.1:{}", coordinator.port)])
            .args(flags)
            .env("KAHN_WORKER__TOKEN_FILE", coordinator.dir.path().join("data/worker.token"))
            .env("KAHN_DATA_DIR", coordinator.dir.path().join(format!("data-of-{name}")));
        Process::start(command, &coordinator.dir.path().join(name))
    };
    let without = start("without", &[])?;
    wait_until("the worker to be refused", TIMEOUT, || {
        without.printed().contains("worker.tls.cert_file")
    })?;
    let certs = &coordinator.certs;
    let (cert, key) = (certs.file("client.pem"), certs.file("client.key"));
    let _with = start("with", &["--cert-file", &cert, "--key-file", &key])?;
    wait_until("the worker to attach", TIMEOUT, || {
        let (url, data) = (format!("https://127.0.0.1:{}", coordinator.port), "KAHN_DATA_DIR");
        let environment = [
            ("KAHN_COORDINATOR_URL".to_owned(), url),
            (data.to_owned(), coordinator.dir.path().join("data").display().to_string()),
        ];
        let workers = kahn(&["workers", "--ca-file", &ca, "--output", "json"], &environment);
        let workers = workers.ok().and_then(|answer| answer.json_lines().ok()).unwrap_or_default();
        workers.iter().any(|worker| worker["worker"] == "with" && worker["status"] == "attached")
    })
}

#[test]
fn clear_text_leaves_the_host_only_if_that_is_accepted() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let open = format!("0.0.0.0:{}", free_port()?);
    let args = ["coordinator", "--listen", &open, "--health-listen", "127.0.0.1:0"];
    let data = ("KAHN_DATA_DIR".to_owned(), dir.path().display().to_string());
    let refused = kahn(&args, std::slice::from_ref(&data))?;
    check_refused(&refused, "--insecure");

    let mut command = Command::new(kahn_path());
    command.args(args).arg("--insecure").env(&data.0, &data.1);
    let accepted = Process::start(command, &dir.path().join("log"))?;
    wait_until("the coordinator to start", TIMEOUT, || {
        accepted.printed().contains("coordinator at http://")
    })
}

/// Counts how often the coordinators have read new certificates.
fn n_reloads(cluster: &Coordinators) -> usize {
    cluster.printed().matches("certificates read again").count()
}

#[test]
fn certificates_are_replaced_without_a_failed_call_and_a_takeover_uses_the_new_ones()
-> anyhow::Result<()> {
    let mut cluster = Coordinators::start_with_tls(2, 1)?;
    let tasks: String = (0..60)
        .map(|n| {
            let needs = if n == 0 { String::new() } else { format!("t{}", n - 1) };
            format!("  t{n}: {{ needs: [{needs}], run: 'sleep 0.1' }}\n")
        })
        .collect();
    let file = cluster.write("chain.yaml", &format!("name: chain\ntasks:\n{tasks}"))?;
    let file = file.display().to_string();
    let submitted = cluster.kahn(&["submit", &file, "--output", "json"])?.ok()?.json()?;
    let run = submitted["run"].as_str().unwrap_or_default().to_owned();

    let (is_over, n_calls) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let calling = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                cluster.kahn(&["get", &run])?.ok()?;
                n_calls.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
        let certs = cluster.certs().expect("a cluster with certificates");
        let replaced = (0..3).try_for_each(|_| {
            let (n_calls_before, n_before) = (n_calls.load(Ordering::Relaxed), n_reloads(&cluster));
            ["coordinator", "worker", "client"].into_iter().try_for_each(|it| certs.replace(it))?;
            wait_until("new certificates and more calls", TIMEOUT, || {
                let has_called = n_calls_before + 10 <= n_calls.load(Ordering::Relaxed);
                (has_called && n_before < n_reloads(&cluster)) || calling.is_finished()
            })
        });
        is_over.store(true, Ordering::Relaxed);
        calling.join().expect("the thread does not panic").and(replaced)
    })?;

    // What was connected before the replacement has to connect again.
    let (leader, _) = cluster.wait_for_leader(None)?;
    cluster.kill9(Part::Coordinator(leader))?;
    cluster.wait_for_leader(Some(leader))?;
    wait_until("the run to end", TIMEOUT, || {
        cluster.history(&run).is_ok_and(|history| history.has("run_succeeded"))
    })
}
