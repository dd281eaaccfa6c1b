use std::future::Future;

use berth_engine::{ContainerRef, Docker, RemoveContainer};
use berth_wire::{
    ContainerDetail, ContainerInspectReq, ContainerKey, ContainerKillReq, ContainerRemoveReq, ContainerReq,
    ContainerStopReq, OperationKind, OperationStarted,
};

use crate::app::Ctx;
use crate::error::AppError;
use crate::operations::{self, Subject};
use crate::project;
use crate::shell_quote::quote;

/// Longest wait before a kill that a page may ask for, in seconds.
const TIMEOUT_LIMIT: u32 = 3600;

pub(crate) async fn container_inspect(cx: Ctx, request: ContainerInspectReq) -> Result<ContainerDetail, AppError> {
    let key = request.container;
    let engine = cx.app.engines.get(&key.engine)?;
    let inspected = engine
        .docker
        .inspect_container(&reference(&key)?)
        .await
        .map_err(|source| AppError::Engine { what: "The container could not be inspected".to_owned(), source })?;
    project::container_detail(&key.engine, &inspected).ok_or(AppError::Gone { what: "The container" })
}

pub(crate) async fn container_start(cx: Ctx, request: ContainerReq) -> Result<OperationStarted, AppError> {
    act(&cx, request.container, OperationKind::ContainerStart, "start", "started", |docker, reference| async move {
        docker.start_container(&reference).await.map(drop)
    })
}

pub(crate) async fn container_stop(cx: Ctx, request: ContainerStopReq) -> Result<OperationStarted, AppError> {
    let timeout = checked_timeout(request.timeout_seconds)?;
    let verb = with_timeout("stop", timeout);
    act(&cx, request.container, OperationKind::ContainerStop, &verb, "stopped", move |docker, reference| async move {
        docker.stop_container(&reference, timeout).await.map(drop)
    })
}

pub(crate) async fn container_restart(cx: Ctx, request: ContainerStopReq) -> Result<OperationStarted, AppError> {
    let timeout = checked_timeout(request.timeout_seconds)?;
    let verb = with_timeout("restart", timeout);
    act(
        &cx,
        request.container,
        OperationKind::ContainerRestart,
        &verb,
        "restarted",
        move |docker, reference| async move { docker.restart_container(&reference, timeout).await.map(drop) },
    )
}

pub(crate) async fn container_pause(cx: Ctx, request: ContainerReq) -> Result<OperationStarted, AppError> {
    act(&cx, request.container, OperationKind::ContainerPause, "pause", "paused", |docker, reference| async move {
        docker.pause_container(&reference).await
    })
}

pub(crate) async fn container_unpause(cx: Ctx, request: ContainerReq) -> Result<OperationStarted, AppError> {
    act(&cx, request.container, OperationKind::ContainerUnpause, "unpause", "resumed", |docker, reference| async move {
        docker.unpause_container(&reference).await
    })
}

pub(crate) async fn container_kill(cx: Ctx, request: ContainerKillReq) -> Result<OperationStarted, AppError> {
    let signal = request.signal;
    let verb = match &signal {
        Some(signal) => format!("kill --signal {}", quote(signal)),
        None => "kill".to_owned(),
    };
    act(&cx, request.container, OperationKind::ContainerKill, &verb, "killed", move |docker, reference| async move {
        docker.kill_container(&reference, signal.as_deref()).await
    })
}

pub(crate) async fn container_remove(cx: Ctx, request: ContainerRemoveReq) -> Result<OperationStarted, AppError> {
    let options = RemoveContainer { force: request.force, volumes: request.volumes };
    let mut verb = "rm".to_owned();
    if request.force {
        verb.push_str(" --force");
    }
    if request.volumes {
        verb.push_str(" --volumes");
    }
    act(&cx, request.container, OperationKind::ContainerRemove, &verb, "deleted", move |docker, reference| async move {
        docker.remove_container(&reference, &options).await
    })
}

/// Starts the operation that does one thing to one container.
fn act<W, F>(
    cx: &Ctx,
    key: ContainerKey,
    kind: OperationKind,
    verb: &str,
    done: &str,
    work: W,
) -> Result<OperationStarted, AppError>
where
    W: FnOnce(Docker, ContainerRef) -> F + Send + 'static,
    F: Future<Output = Result<(), berth_engine::Error>> + Send,
{
    let engine = cx.app.engines.get(&key.engine)?;
    let reference = reference(&key)?;
    let target = cx.app.world.container(&key).map_or_else(|| short(&key), |row| row.name);
    let what = format!("{target} could not be {done}");
    let subject = Subject {
        engine: key.engine.clone(),
        container: Some(key),
        command: format!("docker {verb} {}", quote(&target)),
        target,
        kind,
    };
    let docker = engine.docker.clone();
    Ok(operations::start(&cx.app, subject, async move {
        work(docker, reference).await.map_err(|source| AppError::Engine { what, source })
    }))
}

fn reference(key: &ContainerKey) -> Result<ContainerRef, AppError> {
    key.id.as_str().parse().map_err(|error: berth_engine::Error| AppError::Invalid { reason: error.to_string() })
}

fn short(key: &ContainerKey) -> String {
    key.id.as_str().chars().take(12).collect()
}

fn checked_timeout(seconds: Option<u32>) -> Result<Option<u32>, AppError> {
    match seconds {
        Some(seconds) if seconds > TIMEOUT_LIMIT => {
            Err(AppError::Invalid { reason: format!("timeoutSeconds is at most {TIMEOUT_LIMIT}") })
        }
        other => Ok(other),
    }
}

fn with_timeout(verb: &str, timeout: Option<u32>) -> String {
    timeout.map_or_else(|| verb.to_owned(), |seconds| format!("{verb} --time {seconds}"))
}
