//! Uses a cluster like its users do.

use std::process::Command;

use super::Coordinators;
use crate::binary::{Answer, kahn, kahn_path};
use crate::history::History;
use crate::process::Process;

impl Coordinators {
    /// Runs `kahn` as a client of these URLs.
    ///
    /// # Errors
    ///
    /// Returns an error if the command cannot be started.
    pub fn kahn_at(&self, urls: &str, args: &[&str]) -> anyhow::Result<Answer> {
        kahn(args, &self.client_environment(urls))
    }

    /// Runs `kahn` as a client of all coordinators.
    ///
    /// # Errors
    ///
    /// Returns an error if the command cannot be started.
    pub fn kahn(&self, args: &[&str]) -> anyhow::Result<Answer> {
        self.kahn_at(&self.urls(), args)
    }

    /// Starts `kahn` as a client of these URLs in the background.
    ///
    /// # Errors
    ///
    /// Returns an error if it cannot be started.
    pub fn start_kahn(&self, urls: &str, name: &str, args: &[&str]) -> anyhow::Result<Process> {
        let mut command = Command::new(kahn_path());
        command.args(args).envs(self.client_environment(urls)).env("NO_COLOR", "1");
        let at = |end: &str| self.dir.path().join(format!("{name}.{end}"));
        Process::start_split(command, &at("out"), &at("err"))
    }

    fn client_environment(&self, urls: &str) -> Vec<(String, String)> {
        let token = self.dir.path().join("client.token").display().to_string();
        [("KAHN_COORDINATOR_URL", urls), ("KAHN_TOKEN_FILE", token.as_str())]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into_iter()
            .chain(self.tls_environment("KAHN_", "client"))
            .collect()
    }

    /// Returns all events of a run.
    ///
    /// # Errors
    ///
    /// Returns an error if the leader does not return them.
    pub fn history(&self, run: &str) -> anyhow::Result<History> {
        History::read(&self.kahn(&["events", run, "--output", "json"])?.ok()?)
    }

    /// Returns the token of workers.
    ///
    /// # Errors
    ///
    /// Returns an error if its file cannot be read.
    pub fn worker_token(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.dir.path().join("worker.token"))?)
    }

    /// Returns the token of clients.
    ///
    /// # Errors
    ///
    /// Returns an error if its file cannot be read.
    pub fn client_token(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.dir.path().join("client.token"))?)
    }
}
