//! Checks for images and pulls them.

use std::pin::pin;

use bollard::errors::Error;
use bollard::query_parameters::CreateImageOptions;
use kahn_executor::failure::{cannot_start, forbidden, worker_fault};
use kahn_model::{Failure, PullPolicy};
use tokio_stream::StreamExt as _;

use super::engine::{Engine, status};
use super::settings::ContainerSettings;

/// Ensures that the image is present, according to the policies of the task and the operator.
/// Dropping the returned future ends the pull.
pub(super) async fn ensure(
    engine: &Engine,
    image: &str,
    policy: PullPolicy,
    settings: &ContainerSettings,
) -> Result<(), Failure> {
    if policy == PullPolicy::Always {
        if !settings.pull {
            let message = "image may not be fetched: worker.container.pull is not set";
            return Err(forbidden(message));
        }
        return pull(engine, image, settings).await;
    }
    match engine.docker().inspect_image(image).await {
        Ok(_) => Ok(()),
        Err(error) if status(&error) != Some(404) => Err(explain(image, &error)),
        Err(error) if policy == PullPolicy::Never => Err(explain(image, &error)),
        Err(_) if !settings.pull => Err(cannot_start(&format!(
            "image `{image}` is missing and may not be pulled: worker.container.pull is not set"
        ))),
        Err(_) => pull(engine, image, settings).await,
    }
}

async fn pull(engine: &Engine, image: &str, settings: &ContainerSettings) -> Result<(), Failure> {
    tracing::info!(image, "fetching an image");
    let limit = settings.pull_timeout;
    match tokio::time::timeout(limit, pull_all(engine, image)).await {
        Ok(pulled) => pulled.map_err(|error| explain(image, &error)),
        Err(_) => {
            let message = format!(
                "image `{image}` was not fetched within {limit:?}, which is \
                 worker.container.pull_timeout"
            );
            Err(cannot_start(&message))
        }
    }
}

async fn pull_all(engine: &Engine, image: &str) -> Result<(), Error> {
    let options =
        CreateImageOptions { from_image: Some(with_tag(image)), ..CreateImageOptions::default() };
    let mut progress = pin!(engine.docker().create_image(Some(options), None, None));
    while let Some(step) = progress.next().await {
        let step = step?;
        tracing::trace!(image, status = step.status, "fetching an image");
    }
    Ok(())
}

/// Adds the default tag, without which the engine would pull all tags.
fn with_tag(image: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or(image);
    if name.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

fn explain(image: &str, error: &Error) -> Failure {
    match error {
        Error::DockerResponseServerError { message, .. }
        | Error::DockerStreamError { error: message } => {
            cannot_start(&format!("image `{image}`: {message}"))
        }
        error => worker_fault(&format!("engine did not check image `{image}`: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_a_tag_is_the_latest() {
        for (image, expected) in [
            ("alpine", "alpine:latest"),
            ("alpine:3", "alpine:3"),
            ("host:5000/team/app", "host:5000/team/app:latest"),
            ("host:5000/team/app:1", "host:5000/team/app:1"),
            ("app@sha256:00", "app@sha256:00"),
        ] {
            assert_eq!(with_tag(image), expected);
        }
    }
}
