//! From what the engine says to rows and details of the wire.

use std::collections::BTreeMap;

use berth_engine::model::{self, ContainerInspect, HostConfig};
use berth_engine::{Container, Port};
use berth_wire::{
    ContainerDetail, ContainerRow, ContainerState, EngineId, EnvVariable, Health, HealthProbe, LimitsDetail,
    MountDetail, NetworkDetail, PortRow,
};

use crate::run_command;

/// Health probes shown.
const PROBES: usize = 5;
/// Bytes of a health probe's output shown.
const PROBE_OUTPUT: usize = 4096;

const PROJECT: &str = "com.docker.compose.project";
const PROJECT_FOLDER: &str = "com.docker.compose.project.working_dir";
const SERVICE: &str = "com.docker.compose.service";

/// The row of a container of the live view.
pub(crate) fn container_row(engine: &EngineId, container: &Container) -> Option<ContainerRow> {
    let label = |name: &str| container.labels.get(name).filter(|value| !value.is_empty()).cloned();
    Some(ContainerRow {
        engine: engine.clone(),
        id: container.id.as_str().parse().ok()?,
        name: container.name.clone(),
        image: container.image.clone(),
        command: container.command.clone(),
        state: state(container.state),
        status: container.status.clone(),
        health: container.health.map(health),
        exit_code: container.exit_code,
        out_of_memory: container.out_of_memory,
        error: container.error.clone(),
        restart_count: container.restart_count,
        created: container.created.unwrap_or(0.0),
        started: container.started,
        finished: container.finished,
        ports: ports(&container.ports),
        project: label(PROJECT),
        service: label(SERVICE),
        project_folder: label(PROJECT_FOLDER),
        networks: container.networks.clone(),
        labels: container.labels.clone(),
    })
}

/// Everything about one container.
pub(crate) fn container_detail(engine: &EngineId, inspected: &ContainerInspect) -> Option<ContainerDetail> {
    let row = container_row(engine, &Container::from_inspect(inspected.clone()))?;
    let config = &inspected.config;
    let host = &inspected.host_config;
    let up = inspected.state.status.is_alive();
    Some(ContainerDetail {
        image_id: inspected.image.clone(),
        command: std::iter::once(inspected.path.clone())
            .filter(|path| !path.is_empty())
            .chain(inspected.args.iter().cloned())
            .collect(),
        working_directory: config.working_dir.clone(),
        user: config.user.clone(),
        hostname: config.hostname.clone(),
        restart_policy: run_command::restart_policy(&host.restart_policy),
        tty: config.tty,
        privileged: host.privileged,
        process_id: Some(inspected.state.pid).filter(|pid| *pid != 0),
        environment: config.env.iter().map(|variable| environment_variable(variable)).collect(),
        mounts: inspected.mounts.iter().map(mount).collect(),
        networks: networks(&inspected.network_settings.networks),
        limits: limits(host),
        health_log: health_log(inspected),
        exit_explained: if up { None } else { explain_exit(&row) },
        run_command: run_command::run_command(inspected),
        row,
    })
}

fn state(state: berth_engine::ContainerState) -> ContainerState {
    use berth_engine::ContainerState as Engine;
    match state {
        Engine::Created => ContainerState::Created,
        Engine::Running => ContainerState::Running,
        Engine::Paused => ContainerState::Paused,
        Engine::Restarting => ContainerState::Restarting,
        Engine::Removing => ContainerState::Removing,
        Engine::Exited => ContainerState::Exited,
        Engine::Dead => ContainerState::Dead,
        _ => ContainerState::Unknown,
    }
}

fn health(health: berth_engine::Health) -> Health {
    match health {
        berth_engine::Health::Starting => Health::Starting,
        berth_engine::Health::Healthy => Health::Healthy,
        berth_engine::Health::Unhealthy => Health::Unhealthy,
    }
}

fn ports(ports: &[Port]) -> Vec<PortRow> {
    let mut rows: Vec<PortRow> = ports
        .iter()
        .map(|port| PortRow {
            protocol: port.protocol.clone(),
            container_port: port.container_port,
            host_port: port.host_port,
            host_address: port.host_address.clone(),
        })
        .collect();
    rows.sort();
    rows.dedup();
    rows
}

fn environment_variable(variable: &str) -> EnvVariable {
    let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
    EnvVariable { name: name.to_owned(), value: value.to_owned() }
}

fn mount(mount: &model::MountPoint) -> MountDetail {
    let source = if mount.kind == "volume" && !mount.name.is_empty() { &mount.name } else { &mount.source };
    MountDetail {
        kind: mount.kind.clone(),
        source: source.clone(),
        destination: mount.destination.clone(),
        writable: mount.writable,
    }
}

fn networks(networks: &BTreeMap<String, model::NetworkEndpoint>) -> Vec<NetworkDetail> {
    networks
        .iter()
        .map(|(name, endpoint)| NetworkDetail {
            name: name.clone(),
            address: endpoint.ip_address.clone(),
            gateway: endpoint.gateway.clone(),
            aliases: endpoint.aliases.clone(),
        })
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "shown to people; exact up to 9 PB")]
fn limits(host: &HostConfig) -> LimitsDetail {
    let positive = |number: i64| Some(number).filter(|number| *number > 0).map(|number| number as f64);
    let by_quota = positive(host.cpu_quota).map(|quota| quota / positive(host.cpu_period).unwrap_or(100_000.0));
    LimitsDetail {
        memory_bytes: positive(host.memory),
        processors: positive(host.nano_cpus).map(|nanos| nanos / 1e9).or(by_quota),
        processes: host.pids_limit.and_then(positive),
    }
}

fn health_log(inspected: &ContainerInspect) -> Vec<HealthProbe> {
    let Some(health) = &inspected.state.health else { return Vec::new() };
    let first = health.log.len().saturating_sub(PROBES);
    health
        .log
        .iter()
        .skip(first)
        .map(|run| HealthProbe {
            started: run.start,
            exit_code: i32::try_from(run.exit_code).unwrap_or(-1),
            output: cut(&run.output, PROBE_OUTPUT),
        })
        .collect()
}

fn cut(text: &str, longest: usize) -> String {
    let mut end = text.len().min(longest);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

/// Why the main process ended, in words.
fn explain_exit(row: &ContainerRow) -> Option<String> {
    if let Some(error) = &row.error {
        return Some(format!("The engine could not start it: {error}"));
    }
    let code = row.exit_code?;
    if row.state == ContainerState::Created {
        return None;
    }
    if row.out_of_memory {
        return Some(format!("Exit code {code}: the kernel killed it because it ran out of memory."));
    }
    Some(match code {
        0 => "Exit code 0: it finished without an error.".to_owned(),
        125 => "Exit code 125: the engine itself failed to run it.".to_owned(),
        126 => "Exit code 126: the program was found but may not be executed.".to_owned(),
        127 => "Exit code 127: the program was not found in the image.".to_owned(),
        130 => "Exit code 130: interrupted (SIGINT), as by Ctrl-C.".to_owned(),
        134 => "Exit code 134: it aborted (SIGABRT), usually after an internal error.".to_owned(),
        137 => "Exit code 137: killed (SIGKILL), by `docker kill`, a stop that took too long, or a lack of memory."
            .to_owned(),
        139 => "Exit code 139: it crashed with a memory access violation (SIGSEGV).".to_owned(),
        143 => "Exit code 143: asked to end (SIGTERM), as `docker stop` does.".to_owned(),
        code @ 129..=192 => format!("Exit code {code}: ended by signal {}.", code - 128),
        code => format!("Exit code {code}: the program's own; its log may say more."),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspected(text: &str) -> ContainerInspect {
        serde_json::from_str(text).unwrap()
    }

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn engine() -> EngineId {
        "bundled".parse().unwrap()
    }

    #[test]
    fn an_exit_is_explained_as_docker_means_it() {
        let explain = |state: &str| {
            let inspected = inspected(&format!(r#"{{"Id":"{ID}","Name":"/x","State":{state}}}"#));
            container_detail(&engine(), &inspected).unwrap().exit_explained
        };
        let contains = |state: &str, word: &str| {
            let text = explain(state).unwrap_or_default();
            assert!(text.contains(word), "{state} gives {text:?}, which does not say {word:?}");
        };
        contains(r#"{"Status":"exited","ExitCode":137,"OOMKilled":true}"#, "out of memory");
        contains(r#"{"Status":"exited","ExitCode":137}"#, "SIGKILL");
        contains(r#"{"Status":"exited","ExitCode":127}"#, "not found");
        contains(r#"{"Status":"exited","ExitCode":138}"#, "signal 10");
        contains(r#"{"Status":"created","ExitCode":128,"Error":"no such file"}"#, "no such file");
        assert_eq!(explain(r#"{"Status":"running","ExitCode":0}"#), None);
        assert_eq!(explain(r#"{"Status":"created","ExitCode":0}"#), None);
    }

    #[test]
    fn an_environment_without_a_value_or_with_many_signs_is_read() {
        let pair = |text| {
            let variable = environment_variable(text);
            (variable.name, variable.value)
        };
        assert_eq!(pair("A=b=c"), ("A".into(), "b=c".into()));
        assert_eq!(pair("A"), ("A".into(), String::new()));
    }

    #[test]
    fn probe_output_is_cut_between_characters() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 3), "aé");
    }

    #[test]
    fn limits_that_mean_none_are_absent() {
        let host = HostConfig { pids_limit: Some(-1), cpu_quota: 150_000, ..HostConfig::default() };
        let limits = limits(&host);
        assert_eq!((limits.memory_bytes, limits.processors, limits.processes), (None, Some(1.5), None));
    }
}
