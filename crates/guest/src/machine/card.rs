//! The machine's network card: addresses are fixed in the network that QEMU makes for its user.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::Error;
use crate::files::write;
use crate::netlink;

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const PREFIX: u8 = 24;
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const RESOLVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);

/// What dockerd would load one by one, at a time when it is waited for.
const MODULES: [&str; 9] = [
    "bridge",
    "br_netfilter",
    "veth",
    "nf_tables",
    "nft_compat",
    "nft_chain_nat",
    "xt_addrtype",
    "xt_conntrack",
    "xt_MASQUERADE",
];

/// Brings the card up, if there is one.
pub(super) fn prepare() -> Result<(), Error> {
    // One that is missing is asked for again by whoever needs it, and says so then.
    let _ = Command::new("/usr/sbin/modprobe")
        .args(["-a", "-q"])
        .args(MODULES)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let Some(interface) = card() else { return Ok(()) };
    let what = "bringing up the network card";
    netlink::link_up(interface, what)?;
    netlink::add_address(interface, ADDRESS, PREFIX, what)?;
    netlink::add_default_route(interface, GATEWAY, what)?;
    write(Path::new("/etc/resolv.conf"), &format!("nameserver {RESOLVER}\n"))
}

/// The number of the first interface that has a device behind it.
fn card() -> Option<i32> {
    let entries = fs::read_dir("/sys/class/net").ok()?;
    entries
        .flatten()
        .filter(|entry| entry.path().join("device").exists())
        .find_map(|entry| fs::read_to_string(entry.path().join("ifindex")).ok()?.trim().parse().ok())
}
