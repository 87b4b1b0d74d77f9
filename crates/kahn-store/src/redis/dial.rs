//! Opens connections to servers: TCP, TLS or a socket, then the user and the database.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Pipeline, RedisError, RedisResult, Value};
use kahn_net::ClientTls;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::error::StoreError;
use crate::redis::address::Endpoint;
use crate::redis::login::Login;
use crate::redis::tls;

type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection, and the future that drives it, which its owner must poll.
pub(super) struct Dialed {
    pub(super) connection: MultiplexedConnection,
    pub(super) driver: Driver,
}

impl fmt::Debug for Dialed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialed").finish_non_exhaustive()
    }
}

/// How to connect to any server of one kind.
#[derive(Clone, Debug)]
pub(super) struct Dialer {
    pub(super) login: Login,
    pub(super) database: i64,
    /// `None` without TLS.
    pub(super) tls: Option<ClientTls>,
    pub(super) response_timeout: Duration,
}

impl Dialer {
    /// Connects without a timeout.
    pub(super) async fn dial(&self, server: &Endpoint) -> Result<Dialed, StoreError> {
        let context = || format!("connect to redis at {server}");
        match server {
            Endpoint::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await;
                let stream = stream.map_err(|e| StoreError::io(context(), e))?;
                stream.set_nodelay(true).map_err(|e| StoreError::io(context(), e))?;
                match &self.tls {
                    Some(files) => {
                        let stream = tls::connect(files, host, &server.to_string(), stream).await?;
                        self.over(stream, server).await
                    }
                    None => self.over(stream, server).await,
                }
            }
            Endpoint::Unix(path) => {
                let stream = UnixStream::connect(path).await;
                self.over(stream.map_err(|e| StoreError::io(context(), e))?, server).await
            }
        }
    }

    async fn over<S>(&self, stream: S, server: &Endpoint) -> Result<Dialed, StoreError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(self.response_timeout));
        let settings = self.login.settings(self.database).await?;
        let made = MultiplexedConnection::new_with_config(&settings, stream, config).await;
        let (connection, driver) = made.map_err(|error| self.failed(server, error))?;
        Ok(Dialed { connection, driver: Box::pin(driver) })
    }

    /// Describes an error of a connection that is being set up.
    pub(super) fn failed(&self, server: &Endpoint, error: RedisError) -> StoreError {
        let name = server.to_string();
        if let Some(error) = tls::failed_later(&name, &error) {
            return error;
        }
        let is_closed = error.is_connection_dropped();
        let hint = if is_closed && self.tls.is_none() {
            "; a port with TLS needs the scheme rediss"
        } else {
            ""
        };
        StoreError::Connect { server: name, hint, source: Box::new(error) }
    }
}

impl Dialed {
    /// Runs several commands, driving the connection meanwhile.
    pub(super) async fn run(
        &mut self,
        commands: &Pipeline,
        count: usize,
    ) -> RedisResult<Vec<Value>> {
        tokio::select! {
            answers = self.connection.send_packed_commands(commands, 0, count) => answers,
            () = &mut self.driver => Err(closed()),
        }
    }
}

pub(super) fn closed() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::ConnectionReset).into()
}
