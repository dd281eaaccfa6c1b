//! The engine's own network namespace: loopback up, forwarding on, a firewall front end that works here.

mod port_range;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::Error;
use crate::files::link;
use crate::netlink;

/// Sysctls of a network namespace. The non-local binds let dockerd reserve a port on an address that only the
/// host has; the host's side of the port is the supervisor's.
const SYSCTLS: [(&str, &str); 7] = [
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv4/ip_nonlocal_bind", "1"),
    ("net/ipv6/ip_nonlocal_bind", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
    ("net/ipv6/conf/default/forwarding", "1"),
    ("net/bridge/bridge-nf-call-iptables", "1"),
    ("net/bridge/bridge-nf-call-ip6tables", "1"),
];

/// Brings the namespace up and returns what the user should know about it.
pub(crate) fn prepare() -> Result<Vec<String>, Error> {
    let mut warnings = Vec::new();
    // 1 is `lo` in every namespace.
    netlink::link_up(1, "bringing up the loopback interface")?;
    port_range::choose();
    for (name, value) in SYSCTLS {
        // A kernel without IPv6 or without bridge filtering lacks some of these, and needs them not.
        let _ = fs::write(Path::new("/proc/sys").join(name), value);
    }
    let _ = fs::write("/proc/sys/net/ipv4/ping_group_range", format!("0 {}", last_group()));
    if fs::read_to_string("/proc/sys/net/ipv4/ip_forward").map_or(true, |value| value.trim() != "1") {
        warnings.push("IPv4 forwarding cannot be turned on: containers have no network".to_owned());
    }
    if let Some(warning) = choose_firewall() {
        warnings.push(warning);
    }
    Ok(warnings)
}

/// The highest group there is, as far as the kernel takes it: in a user namespace there are fewer.
fn last_group() -> u32 {
    highest(&fs::read_to_string("/proc/self/gid_map").unwrap_or_default())
}

/// Of the lines `inside outside count` of a map without gaps.
fn highest(map: &str) -> u32 {
    const MOST: u32 = i32::MAX.cast_unsigned();
    let last = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u32>);
        let (inside, count) = (numbers.next()?.ok()?, numbers.nth(1)?.ok()?);
        Some(inside.saturating_add(count.saturating_sub(1)))
    };
    map.lines().filter_map(last).max().unwrap_or(MOST).min(MOST)
}

/// The tree's default front end speaks nftables. A kernel without it is asked through the older one.
fn choose_firewall() -> Option<String> {
    if works("/usr/sbin/iptables-nft") {
        return None;
    }
    if works("/usr/sbin/iptables-legacy") {
        for name in ["iptables", "ip6tables"] {
            for tail in ["", "-save", "-restore"] {
                let at = Path::new("/etc/alternatives").join(format!("{name}{tail}"));
                let _ = fs::remove_file(&at);
                if let Err(error) = link(Path::new(&format!("/usr/sbin/{name}-legacy{tail}")), &at) {
                    return Some(error.to_string());
                }
            }
        }
        return None;
    }
    Some("neither nftables nor iptables works with this kernel: containers have no network".to_owned())
}

fn works(program: &str) -> bool {
    Command::new(program)
        .args(["-t", "nat", "-S"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::highest;

    #[test]
    fn who_may_ping_is_everyone_there_is() {
        assert_eq!(highest("         0          0 4294967295\n"), 2_147_483_647);
        assert_eq!(highest("0 995 1\n1 200000 65536\n"), 65_536);
        assert_eq!(highest("nonsense"), 2_147_483_647);
    }
}
