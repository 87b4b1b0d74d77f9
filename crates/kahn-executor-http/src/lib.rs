//! Executes `http`: requests over HTTP and HTTPS, once or repeatedly until a condition holds.
//!
//! The attempts of a worker share one client with its connections. The worker resolves names and
//! checks addresses itself (see [`Allowed`]). Proxies from the environment, cookies and
//! decompression are disabled. Trusted certificates are those of the system, or those in
//! `SSL_CERT_FILE` and `SSL_CERT_DIR`.
//!
//! Outputs are `status`, `headers` (an object with lower-case names) and either `json` or `body`.
//! An output that does not fit into the size limit is omitted entirely, and the log says so. The
//! log contains requests and responses, without credentials.

mod answer;
mod exchange;
mod guard;
mod mask;
mod poll;
mod prepare;
mod ranges;
mod resolve;
mod transcript;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kahn_model::{Action, ActionKind, Cause, CauseKind, Failure, HttpRequest, Outputs, Usage};
use kahn_runtime::human_duration;
use kahn_spec::Evaluator;
use reqwest::{Client, ClientBuilder};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use exchange::{Detail, Wire};
use guard::Guard;
pub use guard::{Allowed, NotAllowed};
use kahn_executor::failure;
use kahn_executor::secrets::GivenSecrets;
use kahn_executor::{Assignment, Control, Executor, Report};
use poll::Poll;
use prepare::Prepared;
use resolve::{Resolver, System};
use transcript::Transcript;

/// The maximum number of idle connections per host.
const N_IDLE_PER_HOST_MAX: usize = 32;
/// How long idle connections are kept.
const IDLE: Duration = Duration::from_secs(60);
/// The maximum number of conditions queued for evaluation.
const N_CONDITIONS_MAX: usize = 1024;

/// Settings for requests: the section `[worker.http]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSettings {
    /// Destinations that tasks may reach in addition to the public internet: networks
    /// (`10.0.0.0/8`), addresses, and host names with any addresses. Loopback, private, link-local
    /// (including cloud metadata), multicast and reserved addresses are refused unless listed.
    pub allow: Vec<Allowed>,
    /// The timeout for connecting, which is part of the request's timeout.
    #[serde(with = "human_duration")]
    pub connect_timeout: Duration,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self { allow: Vec::new(), connect_timeout: Duration::from_secs(10) }
    }
}

/// An error while opening an [`HttpExecutor`].
#[derive(Debug, thiserror::Error)]
pub enum HttpOpenError {
    /// The client cannot be created.
    #[error("cannot create the HTTP client: {0}")]
    Client(#[from] reqwest::Error),
    /// The thread that evaluates conditions cannot be started.
    #[error("cannot start the thread for conditions: {0}")]
    Thread(#[from] std::io::Error),
}

/// Executes `http`.
#[derive(Clone, Debug)]
pub struct HttpExecutor {
    wire: Wire,
    evaluator: Arc<Evaluator>,
}

impl HttpExecutor {
    /// Opens an executor with its own connections.
    ///
    /// # Errors
    ///
    /// Returns an [`HttpOpenError`] if the executor cannot be set up. Missing trusted certificates
    /// are not an error; then only `https` fails.
    pub fn open(settings: &HttpSettings) -> Result<Self, HttpOpenError> {
        let guard = Arc::new(Guard::new(&settings.allow));
        let builder = || client(settings, &guard);
        let client = builder().build().or_else(|error| {
            tracing::warn!(?error, "no trusted certificates; requests over https will fail");
            builder().tls_certs_only([]).build()
        })?;
        let evaluator = Arc::new(Evaluator::start(N_CONDITIONS_MAX)?);
        Ok(Self { wire: Wire { client, guard }, evaluator })
    }

    /// Sends the request, repeatedly if it has a condition. Dropping the future ends the request.
    async fn carry_out(
        &self,
        asked: &HttpRequest,
        request: &Prepared,
        transcript: &mut Transcript,
    ) -> Result<Outputs, Failure> {
        let (wire, timeout) = (&self.wire, asked.timeout);
        if let Some(polling) = &asked.polling {
            let poll = Poll { wire, evaluator: &self.evaluator, request, polling, timeout };
            return poll.run(transcript).await;
        }
        let answer = wire.exchange(request, timeout, Detail::All, transcript).await?;
        if request.expects(answer.status.as_u16()) {
            Ok(answer.outputs(transcript))
        } else {
            Err(answer.unexpected(&request.expected()))
        }
    }
}

fn client(settings: &HttpSettings, guard: &Arc<Guard>) -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("kahn/", env!("CARGO_PKG_VERSION")))
        .dns_resolver(Resolver::new(Arc::clone(guard), System))
        .no_proxy()
        // Redirects are followed and checked one by one in `exchange`.
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(settings.connect_timeout)
        .pool_max_idle_per_host(N_IDLE_PER_HOST_MAX)
        .pool_idle_timeout(IDLE)
}

#[async_trait]
impl Executor for HttpExecutor {
    fn kind(&self) -> ActionKind {
        ActionKind::Http
    }

    async fn run(&self, assignment: Assignment, mut control: Control) -> Report {
        let Assignment { attempt, task_name, work, env, secrets, timeouts, logs, .. } = assignment;
        let mut transcript = Transcript::new(logs);
        let started_at = Instant::now();
        let outcome = match prepare(&work.action, &env, &secrets, &control) {
            Err(failure) => Err(failure),
            Ok((asked, request)) => {
                control.started();
                tokio::select! {
                    biased;
                    reason = control.stop_or_timeout(timeouts.run) => {
                        Err(failure::stopped(reason, false, timeouts.run))
                    }
                    outcome = Box::pin(self.carry_out(asked, &request, &mut transcript)) => outcome,
                }
            }
        };
        if let Err(failure) = &outcome {
            if failure.cause.kind == CauseKind::Policy {
                let (run, reason) = (attempt.run, secrets.masked(&failure.message));
                tracing::warn!(%run, task = task_name, %reason, "request is refused");
            }
            transcript.remark(failure);
        }
        transcript.seal().await;
        Report { outcome, usage: Usage { elapsed: started_at.elapsed(), ..Usage::default() } }
    }
}

fn prepare<'a>(
    action: &'a Action,
    env: &[(String, String)],
    secrets: &GivenSecrets,
    control: &Control,
) -> Result<(&'a HttpRequest, Prepared), Failure> {
    if let Some(reason) = control.stop_reason() {
        return Err(Failure::of(reason));
    }
    let Action::Http(asked) = action else {
        let message = "this executor carries out `http` only";
        return Err(Failure::new(Cause::of(CauseKind::Infeasible), message));
    };
    Ok((asked, Prepared::new(asked, env, secrets)?))
}
