//! The container engine for the tests.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

/// An image with one static program, whose first argument selects what it does.
pub const IMAGE: &str = "kahn-e2e";

/// `hello WORD`, `wait`, `wait-stubbornly` or `eat`.
const PROGRAM: &str = r#"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static void leave(int signal) { _exit(128 + signal); }
static int hello(const char *word) {
    printf("hello from a container\n");
    FILE *out = fopen(getenv("KAHN_OUTPUT"), "a");
    if (!out) return 9;
    fprintf(out, "word=%s\n", word);
    return fclose(out);
}
int main(int argc, char **argv) {
    if (!strcmp(argv[1], "hello")) return hello(argv[2]);
    if (!strcmp(argv[1], "eat")) for (;;) memset(malloc(1 << 20), 1, 1 << 20);
    signal(SIGTERM, strcmp(argv[1], "wait") ? SIG_IGN : leave);
    fork();
    for (;;) pause();
}
"#;

const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// A container engine, identified by its socket.
#[derive(Clone, Debug)]
pub struct Engine {
    socket: String,
}

impl Engine {
    /// Returns the engine named by `KAHN_TEST_ENGINE`, and builds the test image in it.
    ///
    /// # Errors
    ///
    /// Returns an error if there is an engine, but the image cannot be built.
    pub fn find() -> anyhow::Result<Option<Self>> {
        let named = std::env::var_os("KAHN_TEST_ENGINE").and_then(|named| named.into_string().ok());
        let Some(socket) = named.filter(|named| !named.is_empty()) else { return Ok(None) };
        let engine = Self { socket };
        engine.build_image(IMAGE, PROGRAM)?;
        Ok(Some(engine))
    }

    /// Returns the path of its socket.
    #[must_use]
    pub fn socket(&self) -> &str {
        &self.socket
    }

    /// Returns the environment variables for a worker that uses this engine.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        vec![
            ("KAHN_WORKER__CONTAINER__ENGINE".to_owned(), self.socket.clone()),
            ("KAHN_WORKER__CONTAINER__NETWORK".to_owned(), "none".to_owned()),
        ]
    }

    /// Returns the tasks of the containers of a run, including stopped containers.
    ///
    /// # Errors
    ///
    /// Returns an error if the engine does not answer.
    pub fn containers(&self, run: &str) -> anyhow::Result<Vec<String>> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        // With HTTP/1.0 the body is everything after the head.
        let filters = format!("%7B%22label%22%3A%5B%22dev.kahn.run%3D{run}%22%5D%7D");
        let request = format!("GET /containers/json?all=1&filters={filters} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("not an answer")?;
        anyhow::ensure!(head.contains(" 200 "), "the engine says {answer}");
        let found: Vec<Value> = serde_json::from_str(body)?;
        let task = |found: &Value| found["Labels"]["dev.kahn.task"].as_str().map(str::to_owned);
        Ok(found.iter().filter_map(task).collect())
    }

    /// Builds an image with one static program from C source.
    ///
    /// # Errors
    ///
    /// Returns an error if the program does not compile, or the engine rejects the image.
    pub fn build_image(&self, image: &str, program: &str) -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let dir = dir.path();
        std::fs::write(dir.join("main.c"), program)?;
        run(Command::new("gcc").args(["-static", "-o", "main", "main.c"]).current_dir(dir))?;
        let script = format!(
            "tar c main | docker -H unix://{} import -c 'ENTRYPOINT [\"/main\"]' - {image}",
            self.socket
        );
        run(Command::new("sh").args(["-c", &script]).current_dir(dir))
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let done = command.output().with_context(|| format!("{command:?}"))?;
    anyhow::ensure!(done.status.success(), "{command:?}: {done:?}");
    Ok(())
}

/// Reports on stderr that a test is skipped because there is no engine.
pub fn warn_no_engine(what: &str) {
    let mut stderr = std::io::stderr();
    // A closed stderr is not an error.
    drop(writeln!(stderr, "NOT RUN: {what}, since there is no container engine"));
}
