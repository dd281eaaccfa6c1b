//! The live view of one engine's containers.

use berth_engine::{ContainerState, Docker, RemoveContainer, WatchOptions, watch};
use serde_json::json;

use crate::harness::{Case, CaseContext, Outcome, PATIENCE, case};

pub(crate) fn cases() -> Vec<Case> {
    vec![case!(follows_the_engine)]
}

async fn follows_the_engine(docker: Docker, cx: &CaseContext) -> Outcome {
    let early = cx.running("early", &["sleep", "600"], json!({})).await;
    let (store, _handle) = watch(docker.clone(), WatchOptions::default());
    let mut view = store.subscribe();
    let mut until = async |prefix: &str, wanted: Option<ContainerState>| {
        let name = cx.name(prefix);
        let seen = view.wait_for(|snapshot| {
            let found = snapshot.containers.values().find(|container| container.name == name);
            snapshot.listed && found.map(|container| container.state) == wanted
        });
        tokio::time::timeout(PATIENCE, seen).await.unwrap_or_else(|_| panic!("{prefix} never was {wanted:?}")).unwrap();
    };
    until("early", Some(ContainerState::Running)).await;
    let late = cx.container("late", &["sleep", "600"], json!({})).await;
    until("late", Some(ContainerState::Created)).await;
    docker.start_container(&late).await.unwrap();
    until("late", Some(ContainerState::Running)).await;
    docker.pause_container(&late).await.unwrap();
    until("late", Some(ContainerState::Paused)).await;
    docker.unpause_container(&late).await.unwrap();
    docker.kill_container(&late, None).await.unwrap();
    until("late", Some(ContainerState::Exited)).await;
    docker.remove_container(&late, &RemoveContainer::default()).await.unwrap();
    until("late", None).await;
    docker.remove_container(&early, &RemoveContainer { force: true, volumes: false }).await.unwrap();
    until("early", None).await;
    Outcome::Pass
}
