//! A DAG file arrives in pieces and becomes a run.

use std::collections::BTreeMap;
use std::sync::Arc;

use kahn_core::{Event, Submission};
use kahn_model::{Namespace, RunId, Uuid, Value, limits};
use kahn_proto::api::{self, submit_request::Part};
use kahn_spec::ParamValue;
use sha2::{Digest as _, Sha256};
use tonic::{Status, Streaming};

use super::RunService;
use crate::grpc::refuse;

/// Namespace of the UUIDs that stand for idempotency keys; any fixed UUID would do.
const KEYS: Uuid = Uuid::from_u128(0x6b61_686e_0000_4000_8000_6b65_7973_0001);

impl RunService {
    pub(super) async fn take_submission(
        &self,
        mut inbound: Streaming<api::SubmitRequest>,
    ) -> Result<api::SubmitResponse, Status> {
        let Some(Part::Header(header)) = inbound.message().await?.and_then(|message| message.part)
        else {
            return Err(Status::invalid_argument("the first message must be the header"));
        };
        let document = self.collect(&mut inbound).await?;
        let digest = digest(&header, &document);
        let (run, namespace) = identify(&header)?;
        if let Some(known) = self.known(run, digest).await? {
            return Ok(known);
        }
        let compiled = compile(&header, document).await?;
        let submission = Arc::new(Submission {
            run,
            namespace,
            dag: Arc::new(compiled.dag),
            params: compiled.params,
            digest,
            labels: labels(&header)?,
        });
        self.handle.request(Event::Submitted(submission)).await.map_err(refuse::status)?;
        Ok(api::SubmitResponse {
            run: run.to_string(),
            is_repeated: false,
            warnings: compiled.warnings,
        })
    }

    async fn collect(
        &self,
        inbound: &mut Streaming<api::SubmitRequest>,
    ) -> Result<Vec<u8>, Status> {
        let max = self.limits.document_bytes;
        let mut document = Vec::new();
        while let Some(message) = inbound.message().await? {
            let Some(Part::Document(piece)) = message.part else {
                return Err(Status::invalid_argument("the header comes first and once"));
            };
            if document.len() + piece.len() > max {
                let message = format!("the DAG file is larger than the {max} bytes allowed");
                return Err(Status::resource_exhausted(message));
            }
            document.extend_from_slice(&piece);
        }
        Ok(document)
    }

    /// The answer for a run that is there already, before anything is compiled.
    async fn known(
        &self,
        run: RunId,
        digest: [u8; 16],
    ) -> Result<Option<api::SubmitResponse>, Status> {
        let known = self
            .handle
            .query(move |core| core.state().run(run).map(|known| known.submission.digest))
            .await
            .map_err(refuse::status)?;
        match known {
            None => Ok(None),
            Some(same) if same == digest => Ok(Some(api::SubmitResponse {
                run: run.to_string(),
                is_repeated: true,
                warnings: Vec::new(),
            })),
            Some(_) => Err(refuse::status(kahn_core::Refusal::Conflict(run).into())),
        }
    }
}

/// The run that a header means: the same one whenever namespace and key are the same.
fn identify(header: &api::SubmitHeader) -> Result<(RunId, Namespace), Status> {
    let namespace = match header.namespace.as_str() {
        "" => Namespace::default(),
        text => text.parse().map_err(|error| refuse::invalid("namespace", error))?,
    };
    let key = &header.idempotency_key;
    if key.len() > limits::IDEMPOTENCY_KEY_BYTES_MAX {
        let max = limits::IDEMPOTENCY_KEY_BYTES_MAX;
        return Err(refuse::invalid("idempotency_key", format!("longer than {max} bytes")));
    }
    let id = if key.is_empty() {
        Uuid::now_v7()
    } else {
        Uuid::new_v5(&Uuid::new_v5(&KEYS, namespace.as_str().as_bytes()), key.as_bytes())
    };
    Ok((RunId::new(id), namespace))
}

fn labels(header: &api::SubmitHeader) -> Result<BTreeMap<Box<str>, Box<str>>, Status> {
    if header.labels.len() > limits::LABELS_MAX {
        return Err(refuse::invalid("labels", format!("more than {}", limits::LABELS_MAX)));
    }
    Ok(header.labels.iter().map(|(k, v)| (k.as_str().into(), v.as_str().into())).collect())
}

/// A digest of all that was asked for.
fn digest(header: &api::SubmitHeader, document: &[u8]) -> [u8; 16] {
    let mut hasher = Sha256::new();
    let mut add = |bytes: &[u8]| {
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        hasher.update(len.to_le_bytes());
        hasher.update(bytes);
    };
    add(document);
    for map in [&header.params, &header.labels] {
        let sorted: BTreeMap<_, _> = map.iter().collect();
        add(&sorted.len().to_le_bytes());
        for (key, value) in sorted {
            add(key.as_bytes());
            add(value.as_bytes());
        }
    }
    let mut out = [0; 16];
    out.copy_from_slice(&hasher.finalize()[..16]);
    out
}

/// What came of a DAG file.
struct Compiled {
    dag: kahn_model::Dag,
    params: BTreeMap<Box<str>, Value>,
    warnings: Vec<String>,
}

/// Compiles on a thread for blocking work: a file of a million tasks takes seconds.
async fn compile(header: &api::SubmitHeader, document: Vec<u8>) -> Result<Compiled, Status> {
    let file_name = match header.file_name.as_str() {
        "" => "dag".to_owned(),
        name => name.to_owned(),
    };
    let params: BTreeMap<String, ParamValue> =
        header.params.iter().map(|(k, v)| (k.clone(), ParamValue::Text(v.clone()))).collect();
    let compiled = tokio::task::spawn_blocking(move || {
        kahn_spec::compile(&document, &file_name, &params)
            .map_err(|diagnostics| diagnostics.render())
    })
    .await
    .map_err(|_| Status::internal("the DAG file could not be compiled"))?;
    let compiled = compiled.map_err(|text| Status::invalid_argument(cut(text)))?;
    // The compiler asks for the same limits and says where they are passed. This is the gate.
    kahn_proto::convert::limits::check(&compiled.dag)
        .map_err(|error| refuse::invalid("the DAG", error))?;
    Ok(Compiled {
        dag: compiled.dag,
        params: compiled.params.into_iter().map(named).collect(),
        warnings: compiled.warnings.iter().map(|warnings| cut(warnings.render())).collect(),
    })
}

fn named((name, value): (String, serde_json::Value)) -> (Box<str>, Value) {
    (name.into(), Value::from_json(value.to_string()))
}

/// Statuses travel in headers, whose size is bounded.
fn cut(mut text: String) -> String {
    const MAX: usize = 3 << 10;
    if text.len() > MAX {
        let end = (0..=MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push_str("\n(and more; validate the file to see all)");
    }
    text
}
