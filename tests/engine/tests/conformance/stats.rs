//! Statistics of containers.

use berth_engine::{ContainerRef, ContainerStats, Docker, Sampling};
use futures_util::StreamExt as _;
use serde_json::json;

use crate::harness::{Case, CaseContext, Outcome, PATIENCE, case};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(stats_pair),
        case!(stats_once),
        case!(stats_stream),
        case!(stats_of_networks),
        case!(stats_not_running),
        case!(stats_of_nobody),
    ]
}

async fn busy(cx: &CaseContext) -> ContainerRef {
    cx.running("busy", &["sh", "-c", "while :; do :; done"], json!({})).await
}

fn look_right(stats: &ContainerStats) {
    assert!(stats.read.is_some_and(|nanos| nanos > 1_600_000_000_000_000_000));
    assert!(stats.cpu.total > 0 && stats.cpu.online > 0, "{:?}", stats.cpu);
    assert!(stats.memory.usage > 0 && stats.memory.used() <= stats.memory.usage, "{:?}", stats.memory);
    assert!(stats.memory.limit > stats.memory.usage && stats.memory.percent().is_some_and(|percent| percent < 100.0));
    assert!(stats.pids.current >= 1, "{:?}", stats.pids);
}

async fn stats_pair(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = busy(cx).await;
    let stats = docker.container_stats(&container, Sampling::Pair).await.unwrap();
    look_right(&stats);
    let percent = stats.cpu_percent(None).expect("there is no sample before");
    assert!(percent > 0.0 && percent < 150.0, "{percent}");
    Outcome::Pass
}

async fn stats_once(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = busy(cx).await;
    let first = docker.container_stats(&container, Sampling::Once).await.unwrap();
    let second = docker.container_stats(&container, Sampling::Once).await.unwrap();
    look_right(&second);
    if let Some(percent) = second.cpu_percent(Some(&first)) {
        assert!(percent.is_finite() && percent >= 0.0, "{percent}");
    }
    Outcome::Pass
}

async fn stats_stream(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = busy(cx).await;
    let samples: Vec<ContainerStats> =
        tokio::time::timeout(PATIENCE, docker.stream_stats(&container).take(3).map(|s| s.unwrap()).collect())
            .await
            .unwrap();
    for pair in samples.windows(2) {
        look_right(&pair[1]);
        assert!(pair[1].cpu.total > pair[0].cpu.total && pair[1].read > pair[0].read);
        let percent = pair[1].cpu_percent(Some(&pair[0])).unwrap();
        assert!(percent > 0.0 && percent < 150.0, "{percent}");
    }
    Outcome::Pass
}

async fn stats_of_networks(docker: Docker, cx: &CaseContext) -> Outcome {
    let host = json!({ "HostConfig": { "NetworkMode": "bridge" } });
    let container = cx.running("net", &["sh", "-c", "while :; do busybox ping -c 1 -W 1 192.0.2.99; done"], host).await;
    let sent = async {
        loop {
            let stats = docker.container_stats(&container, Sampling::Once).await.unwrap();
            if stats.network().tx_bytes + stats.network().rx_bytes > 0 {
                return stats.networks.len();
            }
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, sent).await.unwrap(), 1);
    Outcome::Pass
}

async fn stats_not_running(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = cx.container("off", &["true"], json!({})).await;
    let stats = docker.container_stats(&container, Sampling::Pair).await.unwrap();
    assert_eq!((stats.read, stats.cpu.total, stats.memory.usage, stats.pids.current), (None, 0, 0, 0));
    assert_eq!(stats.cpu_percent(None), None);
    Outcome::Pass
}

async fn stats_of_nobody(docker: Docker, cx: &CaseContext) -> Outcome {
    let nobody: ContainerRef = cx.name("nobody").parse().unwrap();
    assert!(docker.container_stats(&nobody, Sampling::Pair).await.unwrap_err().is_not_found());
    let items: Vec<_> = docker.stream_stats(&nobody).collect().await;
    assert!(matches!(&items[..], [Err(error)] if error.is_not_found()), "{items:?}");
    Outcome::Pass
}
