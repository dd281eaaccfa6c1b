//! The machine's network card: addresses are fixed in the network that QEMU makes for its user, and asked for where the
//! kernel's command line says so.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};

use super::dhcp;
use crate::error::Error;
use crate::files::write;
use crate::{command_line, netlink};

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

/// By it the host says where addresses come from.
const SOURCE: &str = "berth.net";

/// A network card.
#[derive(Clone, Debug)]
pub(super) struct Card {
    pub(super) name: String,
    pub(super) number: i32,
    pub(super) hardware_address: [u8; 6],
}

/// Brings the card up, if there is one. Gives what the user should know of it.
pub(super) fn prepare() -> Result<Option<String>, Error> {
    // One that is missing is asked for again by whoever needs it, and says so then.
    let _ = Command::new("/usr/sbin/modprobe")
        .args(["-a", "-q"])
        .args(MODULES)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let Some(card) = find() else { return Ok(None) };
    let what = "bringing up the network card";
    netlink::link_up(card.number, what)?;
    if command_line::value(SOURCE).as_deref() == Some("dhcp") {
        return dhcp::keep(card);
    }
    netlink::add_address(card.number, ADDRESS, PREFIX, what)?;
    netlink::add_default_route(card.number, GATEWAY, what)?;
    resolve_by(&[RESOLVER])?;
    Ok(None)
}

/// Writes down who answers for names.
pub(super) fn resolve_by(resolvers: &[Ipv4Addr]) -> Result<(), Error> {
    let lines: String = resolvers.iter().map(|resolver| format!("nameserver {resolver}\n")).collect();
    write(Path::new("/etc/resolv.conf"), &lines)
}

/// The first interface that has a device behind it.
fn find() -> Option<Card> {
    let entries = fs::read_dir("/sys/class/net").ok()?;
    let with_device = entries.flatten().filter(|entry| entry.path().join("device").exists());
    let mut cards = with_device.filter_map(|entry| look(&entry.file_name().into_string().ok()?));
    cards.next()
}

/// What there is to know of the interface of that name.
fn look(name: &str) -> Option<Card> {
    let read = |what: &str| fs::read_to_string(Path::new("/sys/class/net").join(name).join(what)).ok();
    let number = read("ifindex")?.trim().parse().ok()?;
    let address = read("address")?;
    let bytes: Vec<u8> =
        address.trim().split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect::<Option<_>>()?;
    Some(Card { name: name.to_owned(), number, hardware_address: bytes.try_into().ok()? })
}
