//! Exports from a faulty coordinator: they begin again until they are complete, but not for ever.

#![expect(clippy::unwrap_used, reason = "a test server that fails must be seen to fail")]

use std::sync::atomic::{AtomicU32, Ordering};

use kahn_client::{Client, ExportHeader, ExportPart};
use kahn_proto::api::backups_server::{Backups, BackupsServer};
use kahn_proto::api::{self, export_response::Part};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Iter, iter};
use tonic::{Request, Response, Status};

/// Breaks off the first streams, each in another way.
struct UnreliableServer {
    n_calls: AtomicU32,
    n_broken: u32,
}

type Answers = Iter<std::vec::IntoIter<Result<api::ExportResponse, Status>>>;

fn message(part: Part) -> Result<api::ExportResponse, Status> {
    Ok(api::ExportResponse { part: Some(part) })
}

#[tonic::async_trait]
impl Backups for UnreliableServer {
    type ExportStream = Answers;

    async fn export(
        &self,
        request: Request<api::ExportRequest>,
    ) -> Result<Response<Answers>, Status> {
        assert_eq!(request.into_inner().partition, 3);
        let call = self.n_calls.fetch_add(1, Ordering::SeqCst);
        let header = api::ExportHeader { cluster: "c".into(), partitions: 4, version: "1".into() };
        let mut answers = vec![
            message(Part::Header(header)),
            message(Part::Data(vec![u8::try_from(call).unwrap(); 3].into())),
        ];
        answers.push(match (call < self.n_broken, call % 3) {
            (false, _) => message(Part::End(api::ExportEnd {})),
            (true, 0) => Err(Status::aborted("the partition has changed")),
            (true, 1) => Err(Status::unavailable("another coordinator leads now")),
            // Like a coordinator that is shutting down.
            (true, _) => return Ok(Response::new(iter(answers))),
        });
        Ok(Response::new(iter(answers)))
    }
}

/// Reads a partition. Returns the data since it began last, and how often it began.
async fn read(n_broken: u32) -> Result<(Vec<u8>, u32), kahn_client::Error> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = UnreliableServer { n_calls: AtomicU32::new(0), n_broken };
    let serving = tonic::transport::Server::builder()
        .add_service(BackupsServer::new(server))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(serving);
    let client = Client::connect(&format!("http://{address}"), None).await?;
    let mut export = client.export(3);
    let (mut data, mut n_begun) = (Vec::new(), 0);
    while let Some(part) = export.next().await? {
        match part {
            ExportPart::Begun(header) => {
                let (cluster, version) = ("c".to_owned(), "1".to_owned());
                assert_eq!(header, ExportHeader { cluster, partitions: 4, version });
                data.clear();
                n_begun += 1;
            }
            ExportPart::Data(piece) => data.extend(piece),
        }
    }
    Ok((data, n_begun))
}

#[tokio::test]
async fn an_export_that_is_broken_off_begins_again_and_says_so() {
    assert_eq!(read(0).await.unwrap(), (vec![0; 3], 1));
    assert_eq!(read(4).await.unwrap(), (vec![4; 3], 5));
}

#[tokio::test]
async fn an_export_that_never_comes_to_its_end_is_given_up() {
    assert!(read(u32::MAX).await.unwrap_err().is_unreachable());
}
