//! The autoscaler between real coordinators and a client that asks as KEDA does.

use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use kahn_e2e::{
    Certs, Cluster, ClusterOptions, Process, Store, WorkerOptions, kahn_path, wait_until,
};
use kahn_net::{Addresses, ClientTls};
use kahn_proto::externalscaler as proto;
use proto::external_scaler_client::ExternalScalerClient;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};

const TIMEOUT: Duration = Duration::from_secs(60);

/// A cluster with a configured pool, and an autoscaler that requires certificates.
struct Case {
    cluster: Cluster,
    certs: Certs,
    _autoscaler: Process,
    url: String,
    runtime: Runtime,
}

impl Case {
    fn start() -> anyhow::Result<Self> {
        let options = ClusterOptions { store: Store::Embedded, workers: Vec::new() };
        let pool = [("CAPACITY", "cpu=2"), ("WORKERS_MAX", "9")]
            .map(|(key, value)| (format!("KAHN_COORDINATOR__POOLS__BURST__{key}"), value.into()));
        let cluster = Cluster::start_with(&options, &pool)?;
        let certs = Certs::create(&cluster.path("certs"))?;
        for name in ["autoscaler", "keda"] {
            certs.issue(name)?;
        }
        let tls = |key: &str| format!("KAHN_AUTOSCALER__TLS__{key}_FILE");
        let mut command = Command::new(kahn_path());
        command
            .args(["autoscaler", "--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0"])
            .envs(cluster.client_environment())
            .env(tls("CERT"), certs.file("autoscaler.pem"))
            .env(tls("KEY"), certs.file("autoscaler.key"))
            .env(tls("CLIENT_CA"), certs.file("ca.pem"));
        let autoscaler = Process::start(command, &cluster.path("autoscaler.log"))?;
        let mut url = None;
        wait_until("the autoscaler to start", TIMEOUT, || {
            let printed = autoscaler.printed();
            let said = printed.split_once("autoscaler at ").map(|(_, rest)| rest.to_owned());
            url = said.and_then(|said| Some(said.split_once(',')?.0.to_owned()));
            url.is_some()
        })?;
        let url = url.context("no URL")?;
        let runtime = Runtime::new()?;
        Ok(Self { cluster, certs, _autoscaler: autoscaler, url, runtime })
    }

    fn connect(&self, identity: Option<&str>) -> anyhow::Result<ExternalScalerClient<Channel>> {
        let file =
            |end: &str| identity.map(|name| self.certs.file(&format!("{name}.{end}")).into());
        let ca_file = Some(self.certs.file("ca.pem").into());
        let tls = ClientTls { ca_file, cert_file: file("pem"), key_file: file("key") };
        let addresses = Addresses::parse(&self.url)?.with_tls(tls);
        let endpoint = Endpoint::from(addresses.preferred().clone());
        let channel = self.runtime.block_on(addresses.connect(endpoint))?;
        Ok(ExternalScalerClient::new(channel))
    }

    /// Returns the number of workers that the pool is said to need.
    fn wanted(&self, pool: &str) -> anyhow::Result<f64> {
        let mut client = self.connect(Some("keda"))?;
        let request = proto::GetMetricsRequest {
            scaled_object_ref: Some(object(pool)),
            metric_name: "workers-wanted".into(),
        };
        let answer = self.runtime.block_on(client.get_metrics(request))?.into_inner();
        Ok(answer.metric_values.first().context("no value")?.metric_value_float)
    }

    fn wait_for_wanted(&self, number: f64) -> anyhow::Result<()> {
        wait_until(&format!("{number} workers to be wanted"), TIMEOUT, || {
            self.wanted("burst").is_ok_and(|wanted| (wanted - number).abs() < f64::EPSILON)
        })
    }
}

fn object(pool: &str) -> proto::ScaledObjectRef {
    let scaler_metadata = [("pool".to_owned(), pool.to_owned())].into();
    proto::ScaledObjectRef { scaler_metadata, ..proto::ScaledObjectRef::default() }
}

#[test]
fn the_demand_of_a_pool_is_told_from_the_first_task_to_the_last() -> anyhow::Result<()> {
    let mut case = Case::start()?;
    case.wait_for_wanted(0.0)?;
    let mut client = case.connect(Some("keda"))?;
    let stream = case.runtime.block_on(client.stream_is_active(object("burst")))?;
    let mut stream = stream.into_inner();
    let first = case.runtime.block_on(stream.message())?.context("nothing was said")?;
    assert!(!first.result);

    let file = case.cluster.write(
        "five.yaml",
        "defaults: { resources: { cpu: 1 }, labels: { require: { pool: burst } } }\ntasks:\n  \
         each: { matrix: { n: [1, 2, 3, 4, 5] }, run: sleep 2 }\n",
    )?;
    let submitted = case.cluster.kahn(&["submit", &file.display().to_string()])?;
    let run = submitted.ok()?.stdout.trim().to_owned();
    let second = case.runtime.block_on(stream.message())?.context("nothing was said")?;
    assert!(second.result);
    case.wait_for_wanted(3.0)?;
    let text = case.cluster.kahn(&["pools"])?.ok()?.stdout;
    assert!(text.lines().nth(1).is_some_and(|row| row.contains("burst")), "{text}");

    for name in ["w1", "w2", "w3"] {
        let environment = vec![("KAHN_WORKER__POOL".to_owned(), "burst".to_owned())];
        let (name, capacity) = (name.to_owned(), "cpu=2".to_owned());
        let label = ("zone".to_owned(), "eu".to_owned());
        let worker = WorkerOptions { name, capacity, label, environment, program: None };
        case.cluster.add_worker(worker)?;
    }
    case.cluster.kahn(&["watch", &run])?.ok()?;
    case.wait_for_wanted(0.0)?;
    let third = case.runtime.block_on(stream.message())?.context("nothing was said")?;
    assert!(!third.result);
    Ok(())
}

#[test]
fn nothing_is_told_while_the_coordinators_are_away_and_nobody_without_a_certificate_is_answered()
-> anyhow::Result<()> {
    let mut case = Case::start()?;
    case.wait_for_wanted(0.0)?;
    let error = case.wanted("other").err().context("an unknown pool")?.to_string();
    assert!(error.contains("there are: burst"), "{error}");
    let mut stranger = case.connect(None);
    let refused = match &mut stranger {
        Ok(client) => case.runtime.block_on(client.is_active(object("burst"))).is_err(),
        Err(_) => true,
    };
    assert!(refused, "a client without a certificate was answered");

    case.cluster.coordinator().kill9()?;
    wait_until("an error", TIMEOUT, || case.wanted("burst").is_err())?;
    let mut client = case.connect(Some("keda"))?;
    let spec = case.runtime.block_on(client.get_metric_spec(object("burst")))?.into_inner();
    assert_eq!(spec.metric_specs.len(), 1, "this needs no coordinator");
    case.cluster.start_coordinator()?;
    case.wait_for_wanted(0.0)
}
