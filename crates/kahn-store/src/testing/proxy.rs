//! A TCP proxy that cuts connections at a chosen moment.

use std::sync::Arc;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A fault for the next request that contains the marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Discards the request and closes the connection.
    Request,
    /// Forwards the request and closes the connection before the reply is returned.
    Reply,
    /// Holds back the request until [`Proxy::deliver_late`] and closes the connection.
    Late,
}

type Plan = Arc<Mutex<Vec<Cut>>>;
type Held = Arc<Mutex<Vec<Vec<u8>>>>;

/// A proxy between a client and a server on the loopback interface.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    plan: Plan,
    held: Held,
    server: u16,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy in front of `server`, a port on the loopback interface.
    ///
    /// Only requests that contain `marker` are cut; all others pass.
    ///
    /// # Panics
    ///
    /// Panics if there is no free port.
    pub async fn start(server: u16, marker: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("a bound address").port();
        let (plan, held) = (Plan::default(), Held::default());
        let (marker, plans, holds) = (marker.to_owned(), plan.clone(), held.clone());
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let link =
                    Link { marker: marker.clone(), plan: plans.clone(), held: holds.clone() };
                tokio::spawn(link.carry(client, server));
            }
        });
        Self { port, plan, held, server, task }
    }

    /// Returns the proxy's own URL, to be used instead of the server's.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Schedules a fault for the next request with the marker.
    ///
    /// # Panics
    ///
    /// Panics if another thread panicked.
    pub fn cut(&self, cut: Cut) {
        self.plan.lock().expect("no panic elsewhere").push(cut);
    }

    /// Returns whether every scheduled fault has been injected.
    ///
    /// # Panics
    ///
    /// Panics if another thread panicked.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.plan.lock().expect("no panic elsewhere").is_empty()
    }

    /// Delivers the requests held back by [`Cut::Late`] and returns their number.
    ///
    /// # Panics
    ///
    /// Panics if the server does not answer.
    pub async fn deliver_late(&self) -> usize {
        let late = std::mem::take(&mut *self.held.lock().expect("no panic elsewhere"));
        for request in &late {
            let mut server = connect(self.server).await;
            server.write_all(request).await.expect("the server reads");
            let mut reply = [0; 4096];
            let n_read = server.read(&mut reply).await.expect("the server answers");
            assert!(0 < n_read, "the server hung up");
        }
        late.len()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connect(port: u16) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port)).await.expect("the server listens")
}

struct Link {
    marker: String,
    plan: Plan,
    held: Held,
}

impl Link {
    fn next_cut(&self, request: &[u8]) -> Option<Cut> {
        let marker = self.marker.as_bytes();
        if !request.windows(marker.len()).any(|window| window == marker) {
            return None;
        }
        let mut plan = self.plan.lock().expect("no panic elsewhere");
        if plan.is_empty() { None } else { Some(plan.remove(0)) }
    }

    /// Copies in both directions until one side closes or a fault is due.
    async fn carry(self, mut client: TcpStream, port: u16) {
        let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else {
            return;
        };
        let (mut up, mut down) = (vec![0; 1 << 16], vec![0; 1 << 16]);
        loop {
            tokio::select! {
                read = client.read(&mut up) => {
                    let Ok(n @ 1..) = read else { return };
                    let cut = self.next_cut(&up[..n]);
                    if cut == Some(Cut::Request) {
                        return;
                    }
                    if cut == Some(Cut::Late) {
                        self.held.lock().expect("no panic elsewhere").push(up[..n].to_vec());
                        return;
                    }
                    if server.write_all(&up[..n]).await.is_err() {
                        return;
                    }
                    if cut == Some(Cut::Reply) {
                        // The reply shows that the request was executed, but it is not forwarded.
                        drop(server.read(&mut down).await);
                        return;
                    }
                }
                read = server.read(&mut down) => {
                    let Ok(n @ 1..) = read else { return };
                    if client.write_all(&down[..n]).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}
