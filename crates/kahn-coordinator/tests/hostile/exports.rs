//! Exports for backups: who may have them, and how many at a time.

use kahn_proto::api::backups_client::BackupsClient;
use kahn_proto::api::{ExportRequest, ExportResponse, export_response::Part};
use tonic::{Code, Status, Streaming};

use crate::support::{Server, header, piece};

async fn export(server: &Server, partition: u32) -> Result<Streaming<ExportResponse>, Status> {
    let mut client = BackupsClient::new(server.channel().await);
    let request = server.as_client(ExportRequest { partition });
    Ok(client.export(request).await?.into_inner())
}

/// Reads an export to its end. Returns the number of bytes.
async fn read(mut parts: Streaming<ExportResponse>) -> usize {
    let mut n = 0;
    while let Some(message) = parts.message().await.unwrap() {
        if let Some(Part::Data(data)) = message.part {
            assert!(data.len() <= 1 << 20, "a piece is too large");
            n += data.len();
        }
    }
    n
}

#[tokio::test]
async fn an_export_needs_the_token_of_a_client_and_a_partition() {
    let server = Server::start().await;
    let mut client = BackupsClient::new(server.channel().await);
    let as_worker = server.as_worker(ExportRequest { partition: 0 });
    let refused = [
        client.export(ExportRequest { partition: 0 }).await.unwrap_err(),
        client.export(as_worker).await.unwrap_err(),
    ];
    for status in refused {
        assert_eq!(status.code(), Code::Unauthenticated, "{status}");
    }
    for partition in [1, u32::MAX] {
        let refused = export(&server, partition).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains("not between 0 and 0"), "{refused}");
    }
    assert!(0 < read(export(&server, 0).await.unwrap()).await);
}

/// More than fits into all buffers on the way to a client that does not read.
const BYTES_MIN: usize = 9_000_000;

/// Returns a file of more than three megabytes, of which no two have anything in common.
fn large(run: usize) -> String {
    let mut file = "tasks:\n".to_owned();
    for task in 0..60 {
        let text = format!("{:04} ", 1000 * run + task).repeat(11_000);
        file.push_str(&format!("  t{task}: {{ run: 'echo {text}' }}\n"));
    }
    file
}

#[tokio::test]
async fn exports_that_nobody_reads_leave_no_room_for_others_until_they_end() {
    let server = Server::start().await;
    for run in 0..3 {
        server.submit(vec![header(), piece(large(run).into_bytes())]).await.unwrap();
    }
    let unread = [export(&server, 0).await.unwrap(), export(&server, 0).await.unwrap()];
    let refused = export(&server, 0).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(refused.message().contains("other backups"), "{refused}");
    server.serves_honest_clients().await;
    let [first, second] = unread;
    drop(first);
    assert!(BYTES_MIN < read(second).await);
    let third = loop {
        match export(&server, 0).await {
            Ok(third) => break third,
            Err(status) => assert_eq!(status.code(), Code::ResourceExhausted, "{status}"),
        }
        tokio::task::yield_now().await;
    };
    assert!(BYTES_MIN < read(third).await);
}
