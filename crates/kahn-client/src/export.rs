//! Reads the state of a partition, for backups.

use kahn_proto::api;
use kahn_proto::api::export_response::Part;
use tonic::Streaming;

use crate::client::{Client, within};
use crate::error::Error;
use crate::retry::OutageRetry;

/// How often a partition is read from its beginning before an error is returned.
const TRIES_MAX: u32 = 8;

/// The cluster that is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportHeader {
    /// Its id, 32 hexadecimal digits.
    pub cluster: String,
    /// The number of its partitions.
    pub partitions: u16,
    /// The version of the coordinator.
    pub version: String,
}

/// A part of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportPart {
    /// The data follows from its beginning. Whatever came before is void.
    Begun(ExportHeader),
    /// The next bytes of the data.
    Data(Vec<u8>),
}

/// The state of a partition, created by [`Client::export`].
#[derive(Debug)]
pub struct Export {
    client: Client,
    partition: u16,
    stream: Option<Streaming<api::ExportResponse>>,
    retry: OutageRetry,
    n_tries: u32,
    has_ended: bool,
}

impl Export {
    pub(crate) fn new(client: Client, partition: u16) -> Self {
        let retry = OutageRetry::new(client.options().stream_outage_timeout);
        Self { client, partition, stream: None, retry, n_tries: 0, has_ended: false }
    }

    /// Returns the next part, or `None` at the end of the data.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unreachable`] if the coordinator was unreachable for too long, or if the
    /// partition could not be read in several attempts, and [`Error::Refused`] if the coordinator
    /// refuses it.
    pub async fn next(&mut self) -> Result<Option<ExportPart>, Error> {
        while !self.has_ended {
            match self.step().await {
                Ok(Some(part)) => return Ok(Some(part)),
                Ok(None) => self.has_ended = true,
                Err(error) => {
                    self.stream = None;
                    if TRIES_MAX <= self.n_tries {
                        return Err(error);
                    }
                    self.client.retry_elsewhere(&mut self.retry, error).await?;
                }
            }
        }
        Ok(None)
    }

    async fn step(&mut self) -> Result<Option<ExportPart>, Error> {
        let is_new = self.stream.is_none();
        if is_new {
            self.stream = Some(self.open().await?);
        }
        let Some(stream) = &mut self.stream else { return Ok(None) };
        let message = stream.message().await.map_err(|status| Error::from_status(&status))?;
        let ended = || Error::unreachable("the stream ended before the export");
        match message.ok_or_else(ended)?.part {
            Some(Part::Header(header)) if is_new => {
                self.retry.reset();
                self.n_tries += 1;
                from_wire(header).map(ExportPart::Begun).map(Some)
            }
            Some(Part::Data(data)) if !is_new => Ok(Some(ExportPart::Data(data.into()))),
            Some(Part::End(_)) if !is_new => Ok(None),
            _ => Err(Error::bug("the header of an export does not come first and once")),
        }
    }

    async fn open(&self) -> Result<Streaming<api::ExportResponse>, Error> {
        let mut backups = self.client.backups();
        let asked = backups.export(api::ExportRequest { partition: self.partition.into() });
        Ok(within("export", self.client.options().call_timeout, asked).await?.into_inner())
    }
}

fn from_wire(header: api::ExportHeader) -> Result<ExportHeader, Error> {
    let api::ExportHeader { cluster, partitions, version } = header;
    let partitions = u16::try_from(partitions).ok().filter(|number| *number > 0);
    let partitions =
        partitions.ok_or_else(|| Error::bug("the number of partitions is not possible"))?;
    Ok(ExportHeader { cluster, partitions, version })
}
