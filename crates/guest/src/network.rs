//! The engine's own network namespace: loopback up, forwarding on, a firewall front end that works here.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

use crate::error::Error;
use crate::files::link;

/// Sysctls of a network namespace. The non-local binds let dockerd reserve a port on an address that only the
/// host has; the host's side of the port is the supervisor's.
const SYSCTLS: [(&str, &str); 8] = [
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv4/ip_nonlocal_bind", "1"),
    ("net/ipv6/ip_nonlocal_bind", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
    ("net/ipv6/conf/default/forwarding", "1"),
    ("net/bridge/bridge-nf-call-iptables", "1"),
    ("net/bridge/bridge-nf-call-ip6tables", "1"),
    ("net/ipv4/ping_group_range", "0 2147483647"),
];

/// Brings the namespace up and returns what the user should know about it.
pub(crate) fn prepare() -> Result<Vec<String>, Error> {
    let mut warnings = Vec::new();
    loopback_up()?;
    for (name, value) in SYSCTLS {
        // A kernel without IPv6 or without bridge filtering lacks some of these, and needs them not.
        let _ = fs::write(Path::new("/proc/sys").join(name), value);
    }
    if fs::read_to_string("/proc/sys/net/ipv4/ip_forward").map_or(true, |value| value.trim() != "1") {
        warnings.push("IPv4 forwarding cannot be turned on: containers have no network".to_owned());
    }
    if let Some(warning) = choose_firewall() {
        warnings.push(warning);
    }
    Ok(warnings)
}

/// One netlink message: set IFF_UP on interface 1, which is `lo` in every namespace.
fn loopback_up() -> Result<(), Error> {
    const RTM_NEWLINK: u16 = 16;
    const NLM_F_REQUEST_ACK: u16 = 1 | 4;
    const NLMSG_ERROR: [u8; 2] = 2_u16.to_ne_bytes();
    const IFF_UP: u32 = 1;
    let mut message = Vec::with_capacity(32);
    message.extend_from_slice(&32_u32.to_ne_bytes());
    message.extend_from_slice(&RTM_NEWLINK.to_ne_bytes());
    message.extend_from_slice(&NLM_F_REQUEST_ACK.to_ne_bytes());
    message.extend_from_slice(&1_u32.to_ne_bytes()); // sequence
    message.extend_from_slice(&0_u32.to_ne_bytes()); // to the kernel
    message.extend_from_slice(&[0; 4]); // any family, any type
    message.extend_from_slice(&1_i32.to_ne_bytes()); // interface
    message.extend_from_slice(&IFF_UP.to_ne_bytes()); // flags
    message.extend_from_slice(&IFF_UP.to_ne_bytes()); // which of them change

    let what = "bringing up the loopback interface";
    let netlink = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)
        .map_err(Error::system(what))?;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&netlink);
    send(fd, &message, MsgFlags::empty()).map_err(Error::system(what))?;
    let mut answer = [0; 512];
    let read = recv(fd, &mut answer, MsgFlags::empty()).map_err(Error::system(what))?;
    let refused = || Error::System { what: what.to_owned(), source: nix::errno::Errno::EPROTO };
    let answer = answer.get(..read).ok_or_else(refused)?;
    if answer.get(4..6) != Some(NLMSG_ERROR.as_slice()) {
        return Err(refused());
    }
    let code: [u8; 4] = answer.get(16..20).and_then(|bytes| bytes.try_into().ok()).ok_or_else(refused)?;
    match i32::from_ne_bytes(code) {
        0 => Ok(()),
        code => Err(Error::System { what: what.to_owned(), source: nix::errno::Errno::from_raw(-code) }),
    }
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
