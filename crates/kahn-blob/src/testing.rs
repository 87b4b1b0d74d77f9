//! A real S3 server on loopback, which can be stopped and started again.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::open::Settings;

/// The only bucket of the server.
pub const BUCKET: &str = "kahn";
/// The access key that the server accepts.
pub const ACCESS_KEY_ID: &str = "test-key";
/// The secret of the access key.
pub const SECRET_ACCESS_KEY: &str = "test-secret";

/// How often, and with which pause, to try to use the address of a server that was stopped.
const LISTEN_TRIES: u32 = 1000;
const LISTEN_PAUSE: Duration = Duration::from_millis(10);

/// An S3 server that keeps its objects in a directory. It runs on threads of its own, and dropping
/// it stops it.
#[derive(Debug)]
pub struct S3Server {
    dir: PathBuf,
    address: SocketAddr,
    running: Option<Runtime>,
}

impl S3Server {
    /// Starts a server on a free port, with an empty bucket unless the directory has one.
    ///
    /// # Errors
    ///
    /// Returns an error if the directory or the socket cannot be used.
    pub fn start(dir: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(dir.join(BUCKET))?;
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self { dir: dir.to_owned(), address, running: None };
        server.resume()?;
        Ok(server)
    }

    /// Starts the server again, at the same address and with the objects that it has.
    ///
    /// # Errors
    ///
    /// Returns an error if the directory or the socket cannot be used.
    pub fn resume(&mut self) -> std::io::Result<()> {
        let service = service(&self.dir)?;
        let listener = listen(self.address)?;
        self.address = listener.local_addr()?;
        // Last, because a runtime must not be dropped in a test that is asynchronous.
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build()?;
        runtime.spawn(async move {
            // Every request fails otherwise, which the test notices.
            if let Ok(listener) = TcpListener::from_std(listener) {
                serve(listener, service).await;
            }
        });
        self.running = Some(runtime);
        Ok(())
    }

    /// Stops the server and breaks all its connections, in the middle of requests, too.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.running.take() {
            runtime.shutdown_background();
        }
    }

    /// Returns the URL of the server.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the settings for a prefix of its bucket.
    #[must_use]
    pub fn settings(&self, prefix: &str) -> Settings {
        let options = [("access_key_id", ACCESS_KEY_ID), ("secret_access_key", SECRET_ACCESS_KEY)];
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Settings {
            endpoint: Some(self.endpoint()),
            region: Some("us-east-1".to_owned()),
            allow_http: true,
            options: options.into_iter().collect(),
            ..Settings::new(format!("s3://{BUCKET}/{prefix}"))
        }
    }

    /// Returns the directory with the objects of its bucket.
    #[must_use]
    pub fn bucket_dir(&self) -> PathBuf {
        self.dir.join(BUCKET)
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Listens on an address, which the server that was stopped last may still use for a moment.
fn listen(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    for _ in 0..LISTEN_TRIES {
        match std::net::TcpListener::bind(address) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                std::thread::sleep(LISTEN_PAUSE); // poll
            }
            listener => {
                let listener = listener?;
                listener.set_nonblocking(true)?;
                return Ok(listener);
            }
        }
    }
    Err(std::io::ErrorKind::AddrInUse.into())
}

fn service(dir: &Path) -> std::io::Result<S3Service> {
    let files = s3s_fs::FileSystem::new(dir);
    let files = files.map_err(|error| std::io::Error::other(format!("{error:?}")))?;
    let mut service = S3ServiceBuilder::new(files);
    service.set_auth(SimpleAuth::from_single(ACCESS_KEY_ID, SECRET_ACCESS_KEY));
    Ok(service.build())
}

async fn serve(listener: TcpListener, service: S3Service) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let service = service.clone();
        connections.spawn(async move {
            let server = Builder::new(TokioExecutor::new());
            // A connection that fails concerns its client alone.
            drop(server.serve_connection(TokioIo::new(socket), service).await);
        });
    }
}
