//! A redis-server of our own, on a free port and in a directory that goes with it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

const ADVICE: &str = "redis-server is needed for this test: install it (apt-get install redis-server) \
                      and see that it is on PATH";

/// A running redis-server with its append-only file; it ends when this is dropped.
#[derive(Debug)]
pub struct RedisServer {
    child: Child,
    dir: TempDir,
    port: u16,
    args: Vec<String>,
}

impl RedisServer {
    /// Starts one with an append-only file, flushed as `appendfsync` says.
    ///
    /// # Panics
    ///
    /// When there is no redis-server, or it does not start.
    #[must_use]
    pub fn start(appendfsync: &str) -> Self {
        Self::start_with(&["--appendonly", "yes", "--appendfsync", appendfsync])
    }

    /// Starts one with these arguments and nothing saved but what they say.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    #[must_use]
    pub fn start_with(args: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        // Between finding a free port and using it somebody else may take it.
        for _ in 0..10 {
            let port = free_port();
            if let Some(child) = launch(dir.path(), port, &args) {
                return Self { child, dir, port, args };
            }
        }
        panic!("redis-server did not start in {}", dir.path().display());
    }

    /// Its address, as configuration takes it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The port on the loopback interface.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends it as a crash does, and waits until it is gone.
    ///
    /// # Panics
    ///
    /// When it cannot be killed.
    pub fn kill9(&mut self) {
        self.child.kill().expect("redis-server can be killed");
        self.child.wait().expect("redis-server can be waited for");
    }

    /// Starts it again, on the same port and files, after [`kill9`](Self::kill9).
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn restart(&mut self) {
        let launched = launch(self.dir.path(), self.port, &self.args);
        self.child = launched.expect("redis-server starts again on its port");
    }

    /// Copies the append-only file as it is now.
    ///
    /// # Panics
    ///
    /// When files cannot be copied.
    #[must_use]
    pub fn copy_aof(&self) -> TempDir {
        let copy = tempfile::tempdir().expect("a temporary directory");
        copy_files(&self.aof_dir(), copy.path());
        copy
    }

    /// Puts an earlier copy of the append-only file in place, while the server is down.
    ///
    /// # Panics
    ///
    /// When files cannot be copied.
    pub fn restore_aof(&self, copy: &TempDir) {
        fs::remove_dir_all(self.aof_dir()).expect("the old files can be removed");
        copy_files(copy.path(), &self.aof_dir());
    }

    /// Runs one command over a connection of its own.
    ///
    /// # Panics
    ///
    /// When the server does not carry it out.
    pub fn run(&self, command: &[&str]) {
        let client = ::redis::Client::open(self.url()).expect("a good address");
        let mut connection = client.get_connection().expect("redis-server answers");
        let mut call = ::redis::cmd(command[0]);
        call.arg(&command[1..]).exec(&mut connection).expect("redis-server carries it out");
    }

    fn aof_dir(&self) -> PathBuf {
        self.dir.path().join("appendonlydir")
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // It may be dead already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn free_port() -> u16 {
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

/// Starts a server and waits until it says that it is ready; nothing when it ends before that.
fn launch(dir: &Path, port: u16, args: &[String]) -> Option<Child> {
    let mut child = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"])
        .arg(dir)
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{ADVICE}: {error}"));
    let mut lines = BufReader::new(child.stdout.take().expect("a piped output")).lines();
    let is_ready = lines
        .by_ref()
        .map_while(Result::ok)
        .any(|line| line.contains("eady to accept connections"));
    if !is_ready {
        child.wait().expect("redis-server has ended");
        return None;
    }
    // Somebody must go on reading, or the server blocks when the pipe is full.
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    Some(child)
}
