//! The processes of a benchmark (Redis, coordinator, workers) and their resource usage.

use std::ffi::OsStr;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use kahn_client::Client;
use kahn_runtime::token::Token;
use serde::Serialize;
use tokio::time::Instant;

use super::guard::Guard;
use super::{BenchArgs, STARTUP_TIMEOUT, StoreKind, scratch};
use crate::exit::Failure;

/// How often to check whether a process is ready.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(20);

/// The role of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Role {
    Redis,
    Coordinator,
    Worker,
    Client,
}

/// The resource usage of a process in one round; the names are stable.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Cost {
    process: Role,
    cpu_seconds: f64,
    peak_rss_bytes: u64,
}

/// All processes of a benchmark; killed on drop, and by the guard if this process is killed.
pub(super) struct Bench {
    dir: PathBuf,
    guard: Guard,
    children: Vec<(Role, Child)>,
    client: Option<Client>,
}

/// The usage of the processes before a round.
pub(super) struct Before {
    cpu: Vec<f64>,
    pub coordinator_resident: u64,
}

impl Bench {
    /// Creates a benchmark without processes in a directory.
    pub(super) fn empty(dir: PathBuf) -> Result<Self, Failure> {
        let guard = Guard::start(&dir)?;
        Ok(Self { dir, guard, children: Vec::new(), client: None })
    }

    /// Starts all processes and waits until the workers are attached.
    pub(super) async fn start(args: &BenchArgs, capacity: &str) -> Result<Self, Failure> {
        let mut bench = Self::empty(scratch()?)?;
        let url = bench.open_store(args.store, args.redis_url.as_deref()).await?;
        let port = free_port()?;
        bench.start_coordinator(args.store, &url, port)?;
        let client = bench.connect(port).await?;
        let workers = args.workers.max(1);
        for at in 0..workers {
            bench.start_worker(args.worker_program.as_deref(), at, port, capacity)?;
        }
        wait_for_workers(&client, workers).await?;
        bench.client = Some(client);
        Ok(bench)
    }

    pub(super) fn client(&self) -> &Client {
        self.client.as_ref().expect("invariant: connected when started")
    }

    /// Starts a Redis server if one is needed and none is given. Returns the URL of the store.
    pub(super) async fn open_store(
        &mut self,
        store: StoreKind,
        redis_url: Option<&str>,
    ) -> Result<String, Failure> {
        let fsync = match store {
            StoreKind::Memory => return Ok("memory".into()),
            StoreKind::Embedded | StoreKind::EmbeddedDisk => return Ok("embedded".into()),
            StoreKind::Redis => "everysec",
            StoreKind::RedisAlways => "always",
        };
        if let Some(url) = redis_url {
            return Ok(url.to_owned());
        }
        let dir = self.dir.join("redis");
        make_dir(&dir)?;
        let port = free_port()?;
        let mut command = Command::new("redis-server");
        command
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", fsync])
            .args(["--maxmemory-policy", "noeviction"])
            .arg("--dir")
            .arg(&dir);
        self.spawn(Role::Redis, command, "redis.log")?;
        wait_for_port(port).await?;
        Ok(format!("redis://127.0.0.1:{port}"))
    }

    fn start_coordinator(&mut self, store: StoreKind, url: &str, port: u16) -> Result<(), Failure> {
        let durability = if store == StoreKind::EmbeddedDisk { "disk" } else { "process" };
        let mut command = own_binary()?;
        command
            .arg("coordinator")
            .env("KAHN_COORDINATOR__LISTEN", format!("127.0.0.1:{port}"))
            .env("KAHN_COORDINATOR__HEALTH__LISTEN", "127.0.0.1:0")
            .env("KAHN_COORDINATOR__DATA_DIR", self.dir.join("coordinator"))
            .env("KAHN_COORDINATOR__STORE__URL", url)
            .env("KAHN_COORDINATOR__STORE__DURABILITY", durability);
        self.spawn(Role::Coordinator, command, "coordinator.log")
    }

    fn start_worker(
        &mut self,
        program: Option<&Path>,
        at: usize,
        port: u16,
        capacity: &str,
    ) -> Result<(), Failure> {
        let dir = self.dir.join(format!("worker-{at}"));
        make_dir(&dir)?;
        let mut command = match program {
            Some(program) => Command::new(program),
            None => {
                let mut command = own_binary()?;
                command.arg("worker");
                command
            }
        };
        command
            .env("KAHN_WORKER__COORDINATOR", format!("http://127.0.0.1:{port}"))
            .env("KAHN_WORKER__NAME", format!("worker-{at}"))
            .env("KAHN_WORKER__CAPACITY", capacity)
            // The benchmark keeps the host as busy as possible on purpose.
            .env("KAHN_WORKER__PRESSURE__MODE", "off")
            .env("KAHN_WORKER__DATA_DIR", &dir)
            .env("KAHN_WORKER__TOKEN_FILE", self.dir.join("coordinator/worker.token"))
            .env("KAHN_WORKER__HEALTH__LISTEN", "127.0.0.1:0");
        self.spawn(Role::Worker, command, "worker.log")
    }

    async fn connect(&self, port: u16) -> Result<Client, Failure> {
        let file = self.dir.join("coordinator/client.token");
        wait_until("the coordinator does not create its token", || file.exists()).await?;
        wait_for_port(port).await?;
        let token = Token::from_file(&file)?;
        Ok(Client::connect(&format!("http://127.0.0.1:{port}"), Some(token.expose())).await?)
    }

    pub(super) fn spawn(
        &mut self,
        role: Role,
        mut command: Command,
        log: &str,
    ) -> Result<(), Failure> {
        let program = command.get_program().to_string_lossy().into_owned();
        let failed = |error| Failure::refused(format!("cannot start {program}: {error}"));
        let file =
            File::options().create(true).append(true).open(self.dir.join(log)).map_err(failed)?;
        // The benchmark decides about all settings, whatever the environment says.
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_setting(name)) {
            if !command.get_envs().any(|(set, _)| set == name) {
                command.env_remove(name);
            }
        }
        self.guard.watch(&mut command);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .map_err(failed)?;
        self.children.push((role, child));
        Ok(())
    }

    fn all(&self) -> impl Iterator<Item = (Role, u32)> + '_ {
        let own = std::iter::once((Role::Client, std::process::id()));
        self.children.iter().map(|(role, child)| (*role, child.id())).chain(own)
    }

    /// Records the usage so far and resets the memory peaks.
    pub(super) fn snapshot(&self) -> Before {
        for (_, pid) in self.all() {
            // Without permission, the peak includes earlier rounds.
            drop(std::fs::write(format!("/proc/{pid}/clear_refs"), "5"));
        }
        Before {
            cpu: self.all().map(|(_, pid)| cpu_seconds(pid)).collect(),
            coordinator_resident: self.resident(Role::Coordinator),
        }
    }

    /// Returns the usage of each process since the snapshot.
    pub(super) fn cost_since(&self, before: &Before) -> Vec<Cost> {
        self.all()
            .zip(&before.cpu)
            .map(|((process, pid), earlier)| Cost {
                process,
                cpu_seconds: cpu_seconds(pid) - earlier,
                peak_rss_bytes: status_bytes(pid, "VmHWM:"),
            })
            .collect()
    }

    /// Returns the resident memory of the first process with this role, in bytes.
    pub(super) fn resident(&self, role: Role) -> u64 {
        let found = self.all().find(|(of, _)| *of == role);
        found.map_or(0, |(_, pid)| status_bytes(pid, "VmRSS:"))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for (_, child) in self.children.iter_mut().rev() {
            // The process may have ended already.
            drop(child.kill());
            drop(child.wait());
        }
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

fn is_setting(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b"KAHN_")
}

/// Returns a command that runs this program.
pub(super) fn own_binary() -> Result<Command, Failure> {
    let path = std::env::current_exe()
        .map_err(|error| Failure::refused(format!("cannot find this program: {error}")))?;
    Ok(Command::new(path))
}

pub(super) fn free_port() -> Result<u16, Failure> {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    port.map(|address| address.port())
        .map_err(|error| Failure::refused(format!("no free port: {error}")))
}

fn make_dir(dir: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(dir)
        .map_err(|error| Failure::refused(format!("cannot create {}: {error}", dir.display())))
}

/// Waits until a condition holds. On a timeout, fails with `complaint` as message.
async fn wait_until(complaint: &str, condition: impl Fn() -> bool) -> Result<(), Failure> {
    let deadline = Instant::now() + STARTUP_TIMEOUT;
    while !condition() {
        if Instant::now() > deadline {
            return Err(Failure::refused(complaint));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

pub(super) async fn wait_for_port(port: u16) -> Result<(), Failure> {
    let complaint = format!("nothing listens on port {port}");
    wait_until(&complaint, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).await
}

async fn wait_for_workers(client: &Client, n: usize) -> Result<(), Failure> {
    let deadline = Instant::now() + STARTUP_TIMEOUT;
    loop {
        let workers = client.list_workers().await?;
        if workers.iter().filter(|worker| worker.status == "attached").count() >= n {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Failure::refused("the workers did not attach in time"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Returns the CPU time of a process and its reaped children, in seconds.
fn cpu_seconds(pid: u32) -> f64 {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may contain any character; the numbers follow it.
    let numbers = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: f64 =
        numbers.split_whitespace().skip(11).take(4).filter_map(|n| n.parse::<f64>().ok()).sum();
    ticks / TICKS_PER_SECOND
}

fn status_bytes(pid: u32, key: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
