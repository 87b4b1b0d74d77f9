//! `http`: requests over HTTP and HTTPS, once or until the answer is as wanted.
//!
//! The attempts of a worker share one client with its connections. Names are resolved and
//! addresses checked by the worker itself (see [`Allowed`]), the environment names no proxies, no
//! cookies are kept, and nothing is decompressed. Trusted certificates are those of the system;
//! `SSL_CERT_FILE` and `SSL_CERT_DIR` name others.
//!
//! Outputs are `status`, `headers` (an object; names in lower case) and either `json` or `body`.
//! What does not fit into the limit of outputs is left out as a whole, and the log says so. The
//! log shows requests and answers, without credentials.

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
use kahn_executor::secrets::GivenSecrets;
use kahn_executor::stopped;
use kahn_executor::{Assignment, Control, Executor, Report};
use poll::Poll;
use prepare::Prepared;
use resolve::{Resolver, System};
use transcript::Transcript;

/// Idle connections that are kept for one host.
const N_IDLE_PER_HOST_MAX: usize = 32;
/// How long they are kept.
const IDLE: Duration = Duration::from_secs(60);
/// Conditions that may wait to be evaluated.
const N_CONDITIONS_MAX: usize = 1024;

/// How requests are made: the section `[worker.http]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSettings {
    /// What tasks may reach beside the open internet: networks (`10.0.0.0/8`), addresses, and
    /// names of hosts, whatever their addresses are. Loopback, private, link-local (and with them
    /// the metadata of clouds), multicast and reserved addresses are refused unless listed.
    pub allow: Vec<Allowed>,
    /// How long making a connection may take, as a part of the time of its request.
    #[serde(with = "human_duration")]
    pub connect_timeout: Duration,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self { allow: Vec::new(), connect_timeout: Duration::from_secs(10) }
    }
}

/// Why an [`HttpExecutor`] cannot work.
#[derive(Debug, thiserror::Error)]
pub enum HttpOpenError {
    /// The client cannot be made.
    #[error("no client for HTTP: {0}")]
    Client(#[from] reqwest::Error),
    /// The system gives no thread for conditions.
    #[error("no thread for conditions: {0}")]
    Thread(#[from] std::io::Error),
}

/// Carries out `http`.
#[derive(Clone, Debug)]
pub struct HttpExecutor {
    wire: Wire,
    evaluator: Arc<Evaluator>,
}

impl HttpExecutor {
    /// An executor with connections of its own.
    ///
    /// # Errors
    ///
    /// [`HttpOpenError`] says what is in the way. That the system has no trusted certificates is
    /// not: then only `https` fails.
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

    /// Asks, and asks again where that is wanted. Dropping the future ends the request.
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
        // They are followed one by one, each checked.
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
                        Err(stopped(reason, timeouts.run))
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
