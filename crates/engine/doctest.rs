// What every example in the documentation needs and no reader wants to see. Included by hidden lines; it is no module.

/// What an example ends with.
type Ended = std::result::Result<(), Box<dyn std::error::Error>>;

/// Runs an example on the engine whose socket `BERTH_TEST_ENGINE_BUNDLED` names, with the image `busybox:test` in it.
/// Without one it is compiled only.
#[allow(dead_code)]
fn on_engine<E: std::future::Future<Output = Ended>>(example: impl FnOnce(berth_engine::Docker) -> E) -> Ended {
    let Some(socket) = std::env::var_os("BERTH_TEST_ENGINE_BUNDLED").filter(|socket| !socket.is_empty()) else {
        return Ok(());
    };
    let endpoint = berth_engine::Endpoint::Unix(socket.into());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { example(berth_engine::Docker::connect(endpoint).await?).await })
}

/// A container that runs and is gone when it is stopped.
#[allow(dead_code)]
async fn running(
    docker: &berth_engine::Docker,
    name: &str,
) -> std::result::Result<berth_engine::ContainerRef, berth_engine::Error> {
    let body = serde_json::json!({ "Image": "busybox:test", "Cmd": ["sleep", "600"], "HostConfig": { "AutoRemove": true } });
    let container = docker.create_container(name, &body).await?.into();
    docker.start_container(&container).await?;
    Ok(container)
}
