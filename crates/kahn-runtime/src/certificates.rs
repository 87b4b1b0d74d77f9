//! Watches when the certificates of a process expire: a metric, and warnings in the log.
//!
//! A process that has read a certificate continues to work until the certificate expires, and then
//! no new connection can be made. Nothing else would announce that.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use kahn_net::certificate_expiry;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tokio::task::JoinHandle;
use tracing::warn;

use crate::clock::Clock;
use crate::metrics::{Metrics, StaticLabels};

/// How often the files are read, since they may be replaced.
const READ_EVERY: Duration = Duration::from_secs(60);
/// The remaining time from which on a certificate is warned about.
const WARN_WITHIN: Duration = Duration::from_secs(14 * 24 * 3600);
/// The pause between two warnings about the same certificate.
const WARN_EVERY: Duration = Duration::from_secs(12 * 3600);

/// Watches certificates until it is dropped.
#[derive(Debug)]
pub struct CertificateWatch(JoinHandle<()>);

impl CertificateWatch {
    /// Starts to watch the certificates whose files are given, each with what it is shown for:
    /// `server`, `client` or `health`.
    #[must_use]
    pub fn start<const N: usize>(
        metrics: &Metrics,
        certificates: [(&'static str, Option<&PathBuf>); N],
    ) -> Self {
        let help = "When the certificate for this purpose expires, since the Unix epoch";
        let expiry = metrics.family("certificate_expiry_timestamp_seconds", help);
        let watched = certificates.into_iter().filter_map(|(purpose, file)| {
            Some(Watched { purpose, file: file?.clone(), warned_at: None })
        });
        let watched = watched.collect();
        Self(tokio::spawn(watch(watched, expiry)))
    }
}

impl Drop for CertificateWatch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

type Expiries = Family<StaticLabels<1>, Gauge>;

async fn watch(mut certificates: Vec<Watched>, expiries: Expiries) {
    while !certificates.is_empty() {
        for certificate in &mut certificates {
            certificate.look(&expiries).await;
        }
        tokio::time::sleep(READ_EVERY).await;
    }
}

/// A certificate, and when it was last warned about.
struct Watched {
    purpose: &'static str,
    file: PathBuf,
    warned_at: Option<tokio::time::Instant>,
}

impl Watched {
    async fn look(&mut self, expiries: &Expiries) {
        let file = self.file.clone();
        let read = tokio::task::spawn_blocking(move || certificate_expiry(&file)).await;
        // A file that cannot be read may be in the middle of its replacement. Whoever needs it says
        // why it cannot be used.
        let Ok(Ok(expiry)) = read else { return };
        expiries.get_or_create(&[("purpose", self.purpose)]).set(unix_seconds(expiry));
        let since_epoch = expiry.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let left = since_epoch.saturating_sub(Duration::from_micros(Clock::start().unix_micros()));
        let is_told = self.warned_at.is_some_and(|at| at.elapsed() < WARN_EVERY);
        if left < WARN_WITHIN && !is_told {
            self.warned_at = Some(tokio::time::Instant::now());
            self.warn(left);
        }
    }

    fn warn(&self, left: Duration) {
        let (file, purpose) = (self.file.display(), self.purpose);
        if left.is_zero() {
            warn!(%file, purpose, "a certificate has expired; connections that need it fail");
        } else {
            let hours = left.as_secs() / 3600;
            warn!(%file, purpose, hours, "a certificate expires soon; replace it");
        }
    }
}

fn unix_seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
