//! The `docker run` line that makes the same container.

use berth_engine::model::{ContainerInspect, HealthConfig, HostConfig, RestartPolicy};
use berth_wire::CommandPiece;

use crate::shell_quote::quote;

/// The restart policy as `docker run` spells it.
pub(crate) fn restart_policy(policy: &RestartPolicy) -> String {
    match (policy.name.as_str(), policy.maximum_retry_count) {
        ("" | "no", _) => "no".to_owned(),
        ("on-failure", most) if most > 0 => format!("on-failure:{most}"),
        (name, _) => name.to_owned(),
    }
}

/// A `docker run` line that makes the same container, quoted for a POSIX shell.
///
/// What the image brought and what was asked for cannot be told apart from outside; values that came from
/// the image are repeated, which does no harm.
pub(crate) fn run_command(inspected: &ContainerInspect) -> Vec<CommandPiece> {
    let mut line = Line::default();
    let (config, host) = (&inspected.config, &inspected.host_config);
    line.flag("--detach", true);
    line.value("--name", inspected.plain_name());
    let generated_hostname = inspected.id.as_str().get(..12) == Some(config.hostname.as_str());
    if !generated_hostname && host.network_mode != "host" {
        line.value("--hostname", &config.hostname);
    }
    line.value("--user", &config.user);
    line.value("--workdir", &config.working_dir);
    line.flag("--interactive", config.open_stdin);
    line.flag("--tty", config.tty);
    line.flag("--rm", host.auto_remove);
    line.flag("--init", host.init == Some(true));
    line.flag("--privileged", host.privileged);
    line.flag("--read-only", host.readonly_rootfs);
    line.flag("--publish-all", host.publish_all_ports);
    if restart_policy(&host.restart_policy) != "no" {
        line.value("--restart", &restart_policy(&host.restart_policy));
    }
    for (port, bindings) in &host.port_bindings {
        for binding in bindings {
            let address = match binding.host_ip.as_str() {
                "" => String::new(),
                ip if ip.contains(':') => format!("[{ip}]:"),
                ip => format!("{ip}:"),
            };
            let host_port =
                if binding.host_port.is_empty() { String::new() } else { format!("{}:", binding.host_port) };
            let separator = if !address.is_empty() && host_port.is_empty() { ":" } else { "" };
            line.value("--publish", &format!("{address}{separator}{host_port}{}", port.trim_end_matches("/tcp")));
        }
    }
    for variable in &config.env {
        line.variable(variable);
    }
    mounts(&mut line, host);
    networks(&mut line, inspected);
    limits(&mut line, host);
    security(&mut line, host);
    for (name, value) in &config.labels {
        line.value("--label", &format!("{name}={value}"));
    }
    if let Some(health) = &config.healthcheck {
        health_check(&mut line, health);
    }
    line.value("--stop-signal", &config.stop_signal);
    if let Some(seconds) = config.stop_timeout {
        line.value("--stop-timeout", &seconds.to_string());
    }
    let mut command = config.cmd.clone();
    if let Some((program, arguments)) = config.entrypoint.split_first() {
        line.value("--entrypoint", program);
        command.splice(0..0, arguments.iter().cloned());
    }
    line.word(&config.image);
    for word in &command {
        line.word(word);
    }
    line.finish()
}

fn mounts(line: &mut Line, host: &HostConfig) {
    for bind in &host.binds {
        line.value("--volume", bind);
    }
    for mount in &host.mounts {
        let mut text = format!("type={}", mount.kind);
        if !mount.source.is_empty() {
            text.push_str(&format!(",source={}", mount.source));
        }
        text.push_str(&format!(",target={}", mount.target));
        if mount.read_only {
            text.push_str(",readonly");
        }
        line.value("--mount", &text);
    }
    for (path, options) in &host.tmpfs {
        let text = if options.is_empty() { path.clone() } else { format!("{path}:{options}") };
        line.value("--tmpfs", &text);
    }
    for container in &host.volumes_from {
        line.value("--volumes-from", container);
    }
    for device in &host.devices {
        let permissions = match device.cgroup_permissions.as_str() {
            "" | "rwm" => String::new(),
            other => format!(":{other}"),
        };
        line.value("--device", &format!("{}:{}{permissions}", device.path_on_host, device.path_in_container));
    }
}

fn networks(line: &mut Line, inspected: &ContainerInspect) {
    let host = &inspected.host_config;
    if !matches!(host.network_mode.as_str(), "" | "default" | "bridge") {
        line.value("--network", &host.network_mode);
    }
    if let Some(endpoint) = inspected.network_settings.networks.get(&host.network_mode) {
        let id = inspected.id.as_str();
        let own = |alias: &&String| !id.starts_with(alias.as_str()) && *alias != inspected.plain_name();
        for alias in endpoint.aliases.iter().filter(own) {
            line.value("--network-alias", alias);
        }
        if let Some(addresses) = &endpoint.ipam_config {
            line.value("--ip", &addresses.ipv4_address);
            line.value("--ip6", &addresses.ipv6_address);
        }
    }
    for server in &host.dns {
        line.value("--dns", server);
    }
    for domain in &host.dns_search {
        line.value("--dns-search", domain);
    }
    for entry in &host.extra_hosts {
        line.value("--add-host", entry);
    }
}

fn limits(line: &mut Line, host: &HostConfig) {
    line.number("--memory", host.memory, "b");
    line.number("--memory-reservation", host.memory_reservation, "b");
    if host.memory_swap == -1 {
        line.value("--memory-swap", "-1");
    } else if host.memory_swap != host.memory.saturating_mul(2) {
        line.number("--memory-swap", host.memory_swap, "b");
    }
    if host.nano_cpus > 0 {
        let (whole, rest) = (host.nano_cpus / 1_000_000_000, host.nano_cpus % 1_000_000_000);
        let text = format!("{whole}.{rest:09}");
        line.value("--cpus", text.trim_end_matches('0').trim_end_matches('.'));
    }
    line.number("--cpu-quota", host.cpu_quota, "");
    line.number("--cpu-period", host.cpu_period, "");
    line.number("--cpu-shares", host.cpu_shares, "");
    line.value("--cpuset-cpus", &host.cpuset_cpus);
    line.number("--pids-limit", host.pids_limit.unwrap_or(0), "");
    // 64 MiB is what everyone gets.
    if host.shm_size != 64 * 1024 * 1024 {
        line.number("--shm-size", host.shm_size, "b");
    }
    for limit in &host.ulimits {
        line.value("--ulimit", &format!("{}={}:{}", limit.name, limit.soft, limit.hard));
    }
    for (name, value) in &host.sysctls {
        line.value("--sysctl", &format!("{name}={value}"));
    }
    for request in &host.device_requests {
        let gpu = request.capabilities.iter().flatten().any(|capability| capability == "gpu");
        if gpu && request.device_ids.is_empty() {
            let count = if request.count == -1 { "all".to_owned() } else { request.count.to_string() };
            line.value("--gpus", &count);
        } else if gpu {
            line.value("--gpus", &format!("\"device={}\"", request.device_ids.join(",")));
        }
    }
}

fn security(line: &mut Line, host: &HostConfig) {
    for capability in &host.cap_add {
        line.value("--cap-add", capability);
    }
    for capability in &host.cap_drop {
        line.value("--cap-drop", capability);
    }
    for option in &host.security_opt {
        line.value("--security-opt", option);
    }
    for group in &host.group_add {
        line.value("--group-add", group);
    }
    line.value("--pid", &host.pid_mode);
    line.value("--uts", &host.uts_mode);
    line.value("--userns", &host.userns_mode);
    if !matches!(host.ipc_mode.as_str(), "private" | "shareable") {
        line.value("--ipc", &host.ipc_mode);
    }
    if host.runtime != "runc" {
        line.value("--runtime", &host.runtime);
    }
    if !matches!(host.log_config.driver.as_str(), "" | "json-file") {
        line.value("--log-driver", &host.log_config.driver);
    }
    for (name, value) in &host.log_config.config {
        line.value("--log-opt", &format!("{name}={value}"));
    }
}

fn health_check(line: &mut Line, health: &HealthConfig) {
    match health.test.split_first() {
        Some((kind, _)) if kind == "NONE" => line.flag("--no-healthcheck", true),
        Some((kind, command)) if kind == "CMD-SHELL" => line.value("--health-cmd", &command.join(" ")),
        Some((kind, command)) if kind == "CMD" => {
            let words: Vec<String> = command.iter().map(|word| quote(word)).collect();
            line.value("--health-cmd", &words.join(" "));
        }
        _ => {}
    }
    line.duration("--health-interval", health.interval);
    line.duration("--health-timeout", health.timeout);
    line.number("--health-retries", health.retries, "");
    line.duration("--health-start-period", health.start_period);
}

struct Line {
    pieces: Vec<CommandPiece>,
    /// What is written since the last piece.
    text: String,
}

impl Default for Line {
    fn default() -> Self {
        Self { pieces: Vec::new(), text: "docker run".to_owned() }
    }
}

impl Line {
    fn word(&mut self, word: &str) {
        self.text.push(' ');
        self.text.push_str(&quote(word));
    }

    fn flag(&mut self, name: &str, given: bool) {
        if given {
            self.text.push(' ');
            self.text.push_str(name);
        }
    }

    fn value(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.flag(name, true);
            self.word(value);
        }
    }

    /// `NAME=value`, of which the value is nobody's business.
    fn variable(&mut self, variable: &str) {
        self.flag("--env", true);
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        self.word(name);
        if variable.contains('=') {
            self.text.push('=');
        }
        if !value.is_empty() {
            self.end_piece(false);
            self.text.push_str(&quote(value));
            self.end_piece(true);
        }
    }

    fn end_piece(&mut self, secret: bool) {
        self.pieces.push(CommandPiece { text: std::mem::take(&mut self.text), secret });
    }

    fn finish(mut self) -> Vec<CommandPiece> {
        self.end_piece(false);
        self.pieces
    }

    /// In the largest unit that says it exactly.
    fn duration(&mut self, name: &str, nanoseconds: i64) {
        let (size, unit) = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")]
            .into_iter()
            .find(|(size, _)| nanoseconds % size == 0)
            .unwrap_or((1, "ns"));
        self.number(name, nanoseconds / size, unit);
    }

    fn number(&mut self, name: &str, number: i64, unit: &str) {
        if number > 0 {
            self.value(name, &format!("{number}{unit}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn pieces(rest: &str) -> Vec<CommandPiece> {
        let text = format!(r#"{{"Id":"{ID}","Name":"/web",{rest}}}"#);
        run_command(&serde_json::from_str(&text).unwrap())
    }

    fn line(rest: &str) -> String {
        pieces(rest).into_iter().map(|piece| piece.text).collect()
    }

    #[test]
    fn what_matters_is_there_and_defaults_are_not() {
        let text = line(
            r#""Config":{"Image":"nginx:1","Hostname":"0123456789ab","Env":["A=b c"],"Cmd":["-g","daemon off;"],
                "Entrypoint":["nginx"]},
              "HostConfig":{"PortBindings":{"80/tcp":[{"HostIp":"127.0.0.1","HostPort":"8080"}],"53/udp":[{"HostPort":"53"}]},
                "Binds":["/data:/var/lib:ro"],"RestartPolicy":{"Name":"on-failure","MaximumRetryCount":3},
                "Memory":536870912,"MemorySwap":1073741824,"NanoCpus":1500000000,"ShmSize":67108864,
                "NetworkMode":"default","IpcMode":"private","Runtime":"runc","LogConfig":{"Type":"json-file"}}"#,
        );
        assert_eq!(
            text,
            "docker run --detach --name web --restart on-failure:3 --publish 53:53/udp \
             --publish 127.0.0.1:8080:80 --env A='b c' --volume /data:/var/lib:ro --memory 536870912b --cpus 1.5 \
             --entrypoint nginx nginx:1 -g 'daemon off;'"
        );
    }

    #[test]
    fn values_of_the_environment_are_pieces_of_their_own() {
        let pieces = pieces(r#""Config":{"Image":"x","Env":["A=s=1 2","B=","C","D=s"]},"HostConfig":{}"#);
        let all: Vec<(&str, bool)> = pieces.iter().map(|piece| (piece.text.as_str(), piece.secret)).collect();
        let begin = ("docker run --detach --name web --env A=", false);
        assert_eq!(all, [begin, ("'s=1 2'", true), (" --env B= --env C --env D=", false), ("s", true), (" x", false)]);
    }

    #[test]
    fn durations_are_said_in_the_largest_exact_unit() {
        let text = line(
            r#""Config":{"Image":"x","Healthcheck":{"Test":["CMD-SHELL","true"],"Interval":30000000000,
                "Timeout":1500000000}},"HostConfig":{}"#,
        );
        assert!(text.contains("--health-cmd true --health-interval 30s --health-timeout 1500ms"), "{text}");
    }

    #[test]
    fn hostile_values_stay_words() {
        let text = line(r#""Config":{"Image":"x","Labels":{"a":"$(reboot)'; rm -rf /"}},"HostConfig":{}"#);
        assert!(text.contains(r"--label 'a=$(reboot)'\''; rm -rf /'"), "{text}");
    }

    #[test]
    fn a_random_port_on_one_address_keeps_its_colons() {
        let text =
            line(r#""Config":{"Image":"x"},"HostConfig":{"PortBindings":{"80/tcp":[{"HostIp":"::1","HostPort":""}]}}"#);
        assert!(text.contains("--publish '[::1]::80'"), "{text}");
    }
}
