//! The gRPC service that KEDA asks.

use std::pin::Pin;
use std::sync::Arc;

use kahn_proto::externalscaler as proto;
use proto::external_scaler_server::ExternalScaler;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use crate::demand::Demand;

/// The name of the only metric: the number of workers that a pool needs.
const METRIC: &str = "workers-wanted";
/// The key of a trigger's metadata that names the pool.
const POOL_KEY: &str = "pool";
/// Maximum number of streams at a time: one for each pool, and some that are ending.
const STREAMS_MAX: usize = 256;

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct Scaler {
    demand: Demand,
    streams: Arc<Semaphore>,
}

impl Scaler {
    pub(crate) fn new(demand: Demand) -> Self {
        Self { demand, streams: Arc::new(Semaphore::new(STREAMS_MAX)) }
    }
}

/// Returns the name of the pool that a ScaledObject is about.
fn pool_of(object: Option<&proto::ScaledObjectRef>) -> Result<String, Status> {
    let name = object.and_then(|object| object.scaler_metadata.get(POOL_KEY));
    name.filter(|name| !name.is_empty()).cloned().ok_or_else(|| {
        Status::invalid_argument("the metadata of the trigger must name the pool, as `pool: NAME`")
    })
}

/// Follows whether a pool needs any worker.
struct Follow {
    demand: Demand,
    name: String,
    told: Option<bool>,
    _permit: OwnedSemaphorePermit,
}

impl Follow {
    /// Waits until it is known and differs from what was told last. Returns `None` at the end.
    async fn next(&mut self) -> Option<bool> {
        loop {
            let now = self.demand.pool(&self.name).ok().map(|pool| pool.workers_wanted > 0);
            if now.is_some() && now != self.told {
                self.told = now;
                return now;
            }
            if !self.demand.changed().await {
                return None;
            }
        }
    }
}

/// Whether a pool needs any worker, now and whenever that changes.
type Activity = Pin<Box<dyn Stream<Item = Result<proto::IsActiveResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ExternalScaler for Scaler {
    type StreamIsActiveStream = Activity;

    async fn is_active(
        &self,
        request: Request<proto::ScaledObjectRef>,
    ) -> Result<Response<proto::IsActiveResponse>, Status> {
        let pool = self.demand.pool(&pool_of(Some(request.get_ref()))?)?;
        Ok(Response::new(proto::IsActiveResponse { result: pool.workers_wanted > 0 }))
    }

    async fn stream_is_active(
        &self,
        request: Request<proto::ScaledObjectRef>,
    ) -> Result<Response<Activity>, Status> {
        let name = pool_of(Some(request.get_ref()))?;
        let too_many = |_| Status::resource_exhausted("too many streams");
        let permit = Arc::clone(&self.streams).try_acquire_owned().map_err(too_many)?;
        let follow = Follow { demand: self.demand.clone(), name, told: None, _permit: permit };
        let activity = futures_util::stream::unfold(follow, |mut follow| async move {
            let result = follow.next().await?;
            Some((Ok(proto::IsActiveResponse { result }), follow))
        });
        Ok(Response::new(Box::pin(activity)))
    }

    /// Needs no answer of the coordinators, because KEDA does not ask again if this fails.
    async fn get_metric_spec(
        &self,
        request: Request<proto::ScaledObjectRef>,
    ) -> Result<Response<proto::GetMetricSpecResponse>, Status> {
        pool_of(Some(request.get_ref()))?;
        let spec = proto::MetricSpec {
            metric_name: METRIC.into(),
            target_size: 1,
            target_size_float: 1.0,
        };
        Ok(Response::new(proto::GetMetricSpecResponse { metric_specs: vec![spec] }))
    }

    async fn get_metrics(
        &self,
        request: Request<proto::GetMetricsRequest>,
    ) -> Result<Response<proto::GetMetricsResponse>, Status> {
        let request = request.into_inner();
        let pool = self.demand.pool(&pool_of(request.scaled_object_ref.as_ref())?)?;
        let value = proto::MetricValue {
            metric_name: request.metric_name,
            metric_value: pool.workers_wanted.into(),
            metric_value_float: pool.workers_wanted.into(),
        };
        Ok(Response::new(proto::GetMetricsResponse { metric_values: vec![value] }))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio_stream::StreamExt as _;

    use super::*;
    use crate::demand;
    use crate::demand::tests::{pool, tell};

    fn object(pool: &str) -> proto::ScaledObjectRef {
        let scaler_metadata = [(POOL_KEY.to_owned(), pool.to_owned())].into();
        proto::ScaledObjectRef { scaler_metadata, ..proto::ScaledObjectRef::default() }
    }

    async fn wanted(scaler: &Scaler, pool: &str) -> Result<f64, Status> {
        let scaled_object_ref = Some(object(pool));
        let request = proto::GetMetricsRequest { scaled_object_ref, metric_name: METRIC.into() };
        let answer = scaler.get_metrics(Request::new(request)).await?.into_inner();
        Ok(answer.metric_values[0].metric_value_float)
    }

    #[tokio::test(start_paused = true)]
    async fn the_specification_of_the_metric_needs_no_coordinator_and_its_value_does() {
        let (answers, demand) = demand::channel();
        let scaler = Scaler::new(demand);
        let spec = scaler.get_metric_spec(Request::new(object("a"))).await.unwrap().into_inner();
        assert_eq!(spec.metric_specs[0].metric_name, METRIC);
        assert_eq!(wanted(&scaler, "a").await.unwrap_err().code(), tonic::Code::Unavailable);
        tell(&answers, vec![pool("a", 3)]);
        assert!((wanted(&scaler, "a").await.unwrap() - 3.0).abs() < f64::EPSILON);
        let error = scaler.is_active(Request::new(object(""))).await.unwrap_err();
        assert!(error.message().contains("pool: NAME"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_tells_changes_alone_and_nothing_while_the_coordinators_are_silent() {
        let (answers, demand) = demand::channel();
        let scaler = Scaler::new(demand);
        let stream = scaler.stream_is_active(Request::new(object("a"))).await.unwrap();
        let mut stream = stream.into_inner();
        let second = Duration::from_secs(1);
        assert!(tokio::time::timeout(second, stream.next()).await.is_err());
        for (wanted, told) in [(0, Some(false)), (2, Some(true)), (3, None), (0, Some(false))] {
            tell(&answers, vec![pool("a", wanted)]);
            let next = tokio::time::timeout(second, stream.next()).await;
            assert_eq!(next.ok().map(|next| next.unwrap().unwrap().result), told, "{wanted}");
        }
        drop(answers);
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn streams_are_limited_and_make_room_when_they_end() {
        let (_answers, demand) = demand::channel();
        let scaler = Scaler::new(demand);
        let mut streams = Vec::new();
        for _ in 0..STREAMS_MAX {
            streams.push(scaler.stream_is_active(Request::new(object("a"))).await.unwrap());
        }
        let refused = scaler.stream_is_active(Request::new(object("a"))).await.err().unwrap();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        streams.pop();
        assert!(scaler.stream_is_active(Request::new(object("a"))).await.is_ok());
    }
}
