//! A connection that is ready for use: the scripts are loaded and the cluster has been checked.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client, ConnectionAddr, RedisError, RedisResult, Value};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::error::StoreError;
use crate::redis::keys;
use crate::redis::scripts::SCRIPTS;
use crate::store::ClusterId;

pub(super) type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection and the future that drives it, which its owner must poll.
pub(super) struct Link {
    pub(super) connection: MultiplexedConnection,
    pub(super) driver: Driver,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

/// The address of Redis, and timeouts.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) client: Client,
    pub(super) connect_timeout: Duration,
    pub(super) response_timeout: Duration,
}

impl Target {
    /// Connects and loads the scripts. `cluster` is the expected cluster, if it is known yet.
    pub(super) async fn connect(&self, cluster: Option<ClusterId>) -> Result<Link, StoreError> {
        let ready = timeout(self.connect_timeout, self.make_ready(cluster)).await;
        ready.map_err(|_| StoreError::TimedOut { what: "redis, when connecting" })?
    }

    async fn make_ready(&self, cluster: Option<ClusterId>) -> Result<Link, StoreError> {
        let mut link = self.open().await?;
        let mut setup = ::redis::pipe();
        for script in SCRIPTS.all() {
            setup.cmd("SCRIPT").arg("LOAD").arg(script.text).ignore();
        }
        setup.cmd("HGET").arg(keys::meta()).arg("id");
        let asked = setup.query_async::<(Option<String>,)>(&mut link.connection);
        let (found,) = tokio::select! {
            answer = asked => answer?,
            () = &mut link.driver => return Err(closed().into()),
        };
        let found = found.and_then(|id| u128::from_str_radix(&id, 16).ok()).map(ClusterId);
        match cluster {
            Some(wanted) if found != Some(wanted) => {
                Err(StoreError::WrongCluster { found, wanted })
            }
            _ => Ok(link),
        }
    }

    async fn open(&self) -> Result<Link, StoreError> {
        match self.client.get_connection_info().addr() {
            ConnectionAddr::Tcp(host, port) => {
                let context = || format!("connect to redis at {host}:{port}");
                let stream = TcpStream::connect((host.as_str(), *port)).await;
                let stream = stream.map_err(|e| StoreError::io(context(), e))?;
                stream.set_nodelay(true).map_err(|e| StoreError::io(context(), e))?;
                self.over(stream).await
            }
            ConnectionAddr::Unix(path) => {
                let context = || format!("connect to redis at {}", path.display());
                let stream = UnixStream::connect(path).await;
                self.over(stream.map_err(|e| StoreError::io(context(), e))?).await
            }
            ConnectionAddr::TcpTls { .. } => {
                Err(StoreError::BadConfig("redis over TLS is not supported yet".to_owned()))
            }
            other => Err(StoreError::BadConfig(format!("redis at {other} is not supported"))),
        }
    }

    async fn over<S>(&self, stream: S) -> Result<Link, StoreError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(self.response_timeout));
        let settings = self.client.get_connection_info().redis_settings();
        let (connection, driver) =
            MultiplexedConnection::new_with_config(settings, stream, config).await?;
        Ok(Link { connection, driver: Box::pin(driver) })
    }
}

pub(super) fn closed() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::ConnectionReset).into()
}

/// A request in flight.
pub(super) type Pending = Pin<Box<dyn Future<Output = RedisResult<Value>> + Send>>;

impl Link {
    /// Starts a request. It makes progress while both it and the driver are polled.
    pub(super) fn start(&self, call: ::redis::Cmd) -> Pending {
        let mut connection = self.connection.clone();
        Box::pin(async move { connection.send_packed_command(&call).await })
    }
}
