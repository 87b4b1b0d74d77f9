//! A redis-server for a test, on a free port and in a temporary directory.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

const ADVICE: &str = "redis-server is needed for this test: install it (apt-get install redis-server) \
                      and see that it is on PATH";

/// What a server prints once it is ready: the second one if it is a sentinel.
const READY: [&str; 2] = ["eady to accept connections", "Sentinel ID is"];

/// How long a server may take to answer a test.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// A running redis-server with an append-only file. It is killed on drop.
#[derive(Debug)]
pub struct RedisServer {
    child: Child,
    dir: TempDir,
    port: u16,
    args: Vec<String>,
}

impl RedisServer {
    /// Starts a server with an append-only file and the given `appendfsync` policy.
    ///
    /// # Panics
    ///
    /// Panics if there is no redis-server, or it does not start.
    #[must_use]
    pub fn start(appendfsync: &str) -> Self {
        Self::start_with(&["--appendonly", "yes", "--appendfsync", appendfsync])
    }

    /// Starts a server with these arguments and no other persistence.
    ///
    /// # Panics
    ///
    /// Panics like [`start`](Self::start).
    #[must_use]
    pub fn start_with(args: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        Self::on_free_port(dir, |dir, port| {
            let common =
                ["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"];
            let dir = dir.to_str().expect("a path in UTF-8");
            let common = common.into_iter().chain([dir]).map(str::to_owned);
            common.chain(args.iter().cloned()).collect()
        })
    }

    /// Starts a sentinel with these lines in its configuration.
    ///
    /// # Panics
    ///
    /// Panics like [`start`](Self::start).
    #[must_use]
    pub fn start_sentinel(lines: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        Self::on_free_port(dir, |dir, port| {
            let path = dir.join("sentinel.conf");
            let text = format!("port {port}\nbind 127.0.0.1\ndir {}\n{lines}", dir.display());
            fs::write(&path, text).expect("a configuration");
            vec![path.to_str().expect("a path in UTF-8").to_owned(), "--sentinel".to_owned()]
        })
    }

    fn on_free_port(dir: TempDir, args: impl Fn(&Path, u16) -> Vec<String>) -> Self {
        // Another process may take a free port before it is used.
        for _ in 0..10 {
            let port = free_port();
            let args = args(dir.path(), port);
            if let Some(child) = launch(&args) {
                return Self { child, dir, port, args };
            }
        }
        panic!("redis-server did not start in {}", dir.path().display());
    }

    /// Returns the URL for the configuration.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Returns the directory of the server's files.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the port on the loopback interface.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills the server with `SIGKILL` and waits for its exit.
    ///
    /// # Panics
    ///
    /// Panics if it cannot be killed.
    pub fn kill9(&mut self) {
        self.child.kill().expect("redis-server can be killed");
        self.child.wait().expect("redis-server can be waited for");
    }

    /// Starts the server again with the same port and files, after [`kill9`](Self::kill9).
    ///
    /// # Panics
    ///
    /// Panics if it does not start.
    pub fn restart(&mut self) {
        let launched = launch(&self.args);
        self.child = launched.expect("redis-server starts again on its port");
    }

    /// Copies the current append-only file.
    ///
    /// # Panics
    ///
    /// Panics if files cannot be copied.
    #[must_use]
    pub fn copy_aof(&self) -> TempDir {
        let copy = tempfile::tempdir().expect("a temporary directory");
        copy_files(&self.aof_dir(), copy.path());
        copy
    }

    /// Restores an earlier copy of the append-only file while the server is stopped.
    ///
    /// # Panics
    ///
    /// Panics if files cannot be copied.
    pub fn restore_aof(&self, copy: &TempDir) {
        fs::remove_dir_all(self.aof_dir()).expect("the old files can be removed");
        copy_files(copy.path(), &self.aof_dir());
    }

    /// Stops all threads of the server with `SIGSTOP`. Connections stay open, but nothing answers.
    ///
    /// # Panics
    ///
    /// Panics if the signal cannot be sent.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// Continues the server after [`pause`](Self::pause).
    ///
    /// # Panics
    ///
    /// Panics if the signal cannot be sent.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.expect("kill is installed").success(), "SIG{name} to redis-server");
    }

    /// Runs one command over a separate connection.
    ///
    /// # Panics
    ///
    /// Panics if the command fails.
    pub fn run(&self, command: &[&str]) {
        self.query::<::redis::Value>(command);
    }

    /// Runs one command over a separate connection, and returns its answer.
    ///
    /// # Panics
    ///
    /// Panics if the command fails.
    pub fn query<T: ::redis::FromRedisValue>(&self, command: &[&str]) -> T {
        self.try_query(command).unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// Runs one command over a separate connection, with a timeout.
    ///
    /// # Errors
    ///
    /// Returns an error if the server does not answer, or answers with one.
    pub fn try_query<T: ::redis::FromRedisValue>(
        &self,
        command: &[&str],
    ) -> ::redis::RedisResult<T> {
        let client = ::redis::Client::open(self.url())?;
        let mut connection = client.get_connection_with_timeout(ANSWER_MAX)?;
        connection.set_read_timeout(Some(ANSWER_MAX))?;
        ::redis::cmd(command[0]).arg(&command[1..]).query(&mut connection)
    }

    /// Returns whether the server is up and a master.
    #[must_use]
    pub fn is_master(&self) -> bool {
        let info = self.try_query::<String>(&["INFO", "replication"]);
        info.is_ok_and(|info| info.contains("role:master"))
    }

    fn aof_dir(&self) -> PathBuf {
        self.dir.path().join("appendonlydir")
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // It may already have exited.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(super) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound address").port()
}

fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory for the copy");
    for file in fs::read_dir(from).expect("an append-only directory") {
        let file = file.expect("a readable directory");
        fs::copy(file.path(), to.join(file.file_name())).expect("a copy");
    }
}

/// Starts a server and waits until it is ready. Returns `None` if it exits before.
fn launch(args: &[String]) -> Option<Child> {
    let mut child = Command::new("redis-server")
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{ADVICE}: {error}"));
    let mut lines = BufReader::new(child.stdout.take().expect("a piped output")).lines();
    let is_ready = lines
        .by_ref()
        .map_while(Result::ok)
        .any(|line| READY.iter().any(|ready| line.contains(ready)));
    if !is_ready {
        child.wait().expect("redis-server has ended");
        return None;
    }
    // The output must be read, or the server blocks once the pipe is full.
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    Some(child)
}
