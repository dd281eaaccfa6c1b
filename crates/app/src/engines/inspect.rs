//! What of an engine is not in its row.

use berth_vm::{ControlClient, EnginePaths, Metrics, Status};
use berth_wire::{AcceleratorDetail, ComponentDetail, EngineDetail, MachineUse};

use super::Engine;

/// How an engine is run and what that takes. Of one that was there before, nothing is known.
pub(crate) async fn inspect(engine: &Engine) -> EngineDetail {
    let Some(paths) = &engine.paths else { return EngineDetail::default() };
    let status = berth_vm::status(paths).await;
    let metrics = if status.features.machine && status.is_usable() { metrics(paths).await } else { None };
    detail(status, metrics)
}

/// A machine that is just being stopped or looked for has none to tell.
async fn metrics(paths: &EnginePaths) -> Option<Metrics> {
    let told = async { ControlClient::connect(paths).await?.metrics().await };
    told.await.inspect_err(|error| tracing::debug!(%error, "no metrics")).ok()
}

fn detail(status: Status, metrics: Option<Metrics>) -> EngineDetail {
    let versions = status.versions;
    let component = |name: &str, version: Option<String>| version.map(|version| (name.to_owned(), version));
    let components = [
        component("dockerd", versions.engine),
        component("containerd", versions.containerd),
        component("runc", versions.runc),
        component("Debian", versions.suite),
    ];
    EngineDetail {
        backend: status.backend.map(|backend| backend.name().to_owned()),
        accelerator: status.accelerator.map(|found| AcceleratorDetail { name: found.name, why: found.why }),
        data_folder: Some(status.data.to_string_lossy().into_owned()),
        process: status.pid,
        components: components.into_iter().flatten().map(|(name, version)| ComponentDetail { name, version }).collect(),
        machine: metrics.map(|metrics| machine(&metrics)),
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown to people; exact up to 9 PB")]
fn machine(metrics: &Metrics) -> MachineUse {
    MachineUse {
        memory_total_bytes: metrics.memory_total_bytes as f64,
        memory_available_bytes: metrics.memory_available_bytes as f64,
        memory_host_bytes: metrics.memory_host_bytes as f64,
        disk_total_bytes: metrics.disk_total_bytes as f64,
        disk_free_bytes: metrics.disk_free_bytes as f64,
        disk_host_bytes: metrics.disk_host_bytes as f64,
    }
}

#[cfg(test)]
mod tests {
    use berth_vm::{AcceleratorStatus, Backend, Versions};

    use super::*;

    #[test]
    fn what_the_supervisor_does_not_know_is_left_out() {
        assert_eq!(detail(Status::default(), None).components, []);
        let status = Status {
            pid: Some(7),
            backend: Some(Backend::Qemu),
            versions: Versions { engine: Some("28.5".into()), ..Versions::default() },
            accelerator: Some(AcceleratorStatus { name: "KVM".into(), why: "It works.".into() }),
            ..Status::default()
        };
        let metrics = Metrics { memory_host_bytes: 9, ..Metrics::default() };
        let found = detail(status, Some(metrics));
        assert_eq!(found.backend.as_deref(), Some("qemu"));
        assert_eq!(found.components, [ComponentDetail { name: "dockerd".into(), version: "28.5".into() }]);
        assert!(found.machine.is_some_and(|machine| machine.memory_host_bytes > 8.0));
    }
}
