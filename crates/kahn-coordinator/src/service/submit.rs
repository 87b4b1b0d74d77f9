//! Submits a DAG file, which creates a run.

use std::collections::BTreeMap;
use std::sync::Arc;

use kahn_core::{Event, Submission};
use kahn_model::{Namespace, RunId, Uuid, Value, limits};
use kahn_spec::ParamValue;
use sha2::{Digest as _, Sha256};

use super::{ErrorKind, Service, ServiceError};

/// Namespace of the UUIDs derived from idempotency keys; an arbitrary constant.
const KEYS: Uuid = Uuid::from_u128(0x6b61_686e_0000_4000_8000_6b65_7973_0001);

/// A request to run a DAG file, without the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Submit {
    /// The namespace, or empty for the default one.
    pub namespace: String,
    /// A repeated request with the same key returns the same run. If empty, a new run is always
    /// created.
    pub idempotency_key: String,
    /// Values of the file's parameters, as text.
    pub params: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    /// The file name shown in messages.
    pub file_name: String,
}

/// The result of a submission.
#[derive(Clone, Debug)]
pub(crate) struct Submitted {
    pub run: RunId,
    /// Whether the run already existed under the same idempotency key.
    pub is_repeated: bool,
    /// Warnings about the file.
    pub warnings: Vec<String>,
}

/// A DAG file that is received in pieces.
#[derive(Debug)]
pub(crate) struct Upload {
    bytes: Vec<u8>,
    max: usize,
}

impl Upload {
    /// Appends a piece of the file; returns an error if the file becomes too large.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<(), ServiceError> {
        if self.bytes.len() + piece.len() > self.max {
            let message = format!(
                "the DAG file is larger than the {} bytes allowed \
                 (coordinator.limits.document_bytes)",
                self.max
            );
            return Err(ServiceError::new(ErrorKind::TooLarge, message));
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }
}

impl Service {
    /// Starts to receive a DAG file.
    pub(crate) fn upload(&self) -> Upload {
        Upload { bytes: Vec::new(), max: self.limits.document_bytes }
    }

    /// Submits a run of a DAG file. Returns once the run is durable.
    pub(crate) async fn submit(
        &self,
        request: Submit,
        document: Upload,
    ) -> Result<Submitted, ServiceError> {
        let digest = digest(&request, &document.bytes);
        let (run, namespace) = identify(&request)?;
        if let Some(known) = self.known(run, digest).await? {
            return Ok(known);
        }
        let compiled = compile(&request, document.bytes).await?;
        let submission = Arc::new(Submission {
            run,
            namespace,
            dag: Arc::new(compiled.dag),
            params: compiled.params,
            digest,
            labels: labels(&request)?,
        });
        self.handle.request(Event::Submitted(submission)).await?;
        Ok(Submitted { run, is_repeated: false, warnings: compiled.warnings })
    }

    /// Returns the result for an existing run, so that the file need not be compiled.
    async fn known(&self, run: RunId, digest: [u8; 16]) -> Result<Option<Submitted>, ServiceError> {
        let known = self
            .handle
            .query(move |core| core.state().summary(run).map(|known| known.digest))
            .await?;
        match known {
            None => Ok(None),
            Some(same) if same == digest => {
                Ok(Some(Submitted { run, is_repeated: true, warnings: Vec::new() }))
            }
            Some(_) => Err(kahn_core::Refusal::Conflict(run).into()),
        }
    }
}

/// Returns the id of the requested run: equal whenever namespace and key are equal.
fn identify(request: &Submit) -> Result<(RunId, Namespace), ServiceError> {
    let namespace = match request.namespace.as_str() {
        "" => Namespace::default(),
        text => text.parse().map_err(|error| ServiceError::invalid("namespace", error))?,
    };
    let key = &request.idempotency_key;
    if key.len() > limits::IDEMPOTENCY_KEY_BYTES_MAX {
        let max = limits::IDEMPOTENCY_KEY_BYTES_MAX;
        return Err(ServiceError::invalid("idempotency_key", format!("longer than {max} bytes")));
    }
    let id = if key.is_empty() {
        Uuid::now_v7()
    } else {
        Uuid::new_v5(&Uuid::new_v5(&KEYS, namespace.as_str().as_bytes()), key.as_bytes())
    };
    Ok((RunId::new(id), namespace))
}

fn labels(request: &Submit) -> Result<BTreeMap<Box<str>, Box<str>>, ServiceError> {
    if request.labels.len() > limits::LABELS_MAX {
        return Err(ServiceError::invalid("labels", format!("more than {}", limits::LABELS_MAX)));
    }
    Ok(request.labels.iter().map(|(k, v)| (k.as_str().into(), v.as_str().into())).collect())
}

/// Returns a digest of the whole request.
fn digest(request: &Submit, document: &[u8]) -> [u8; 16] {
    let mut hasher = Sha256::new();
    let mut add = |bytes: &[u8]| {
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        hasher.update(len.to_le_bytes());
        hasher.update(bytes);
    };
    add(document);
    for map in [&request.params, &request.labels] {
        add(&map.len().to_le_bytes());
        for (key, value) in map {
            add(key.as_bytes());
            add(value.as_bytes());
        }
    }
    let mut out = [0; 16];
    out.copy_from_slice(&hasher.finalize()[..16]);
    out
}

/// A compiled DAG file.
struct Compiled {
    dag: kahn_model::Dag,
    params: BTreeMap<Box<str>, Value>,
    warnings: Vec<String>,
}

/// Compiles on a blocking thread, since a file with a million tasks takes seconds.
async fn compile(request: &Submit, document: Vec<u8>) -> Result<Compiled, ServiceError> {
    let file_name = match request.file_name.as_str() {
        "" => "dag".to_owned(),
        name => name.to_owned(),
    };
    let params: BTreeMap<String, ParamValue> =
        request.params.iter().map(|(k, v)| (k.clone(), ParamValue::Text(v.clone()))).collect();
    let compiled = tokio::task::spawn_blocking(move || {
        kahn_spec::compile(&document, &file_name, &params)
            .map_err(|diagnostics| diagnostics.render())
    })
    .await
    .map_err(|_| ServiceError::new(ErrorKind::Internal, "the DAG file could not be compiled"))?;
    let compiled = compiled.map_err(|text| ServiceError::new(ErrorKind::Invalid, text))?;
    // The compiler checks the same limits, and reports where in the file they are exceeded.
    kahn_proto::convert::limits::check(&compiled.dag)
        .map_err(|error| ServiceError::invalid("the DAG", error))?;
    Ok(Compiled {
        dag: compiled.dag,
        params: compiled.params.into_iter().map(named).collect(),
        warnings: compiled.warnings.iter().map(|warnings| warnings.render()).collect(),
    })
}

fn named((name, value): (String, serde_json::Value)) -> (Box<str>, Value) {
    (name.into(), Value::from_json(value.to_string()))
}
