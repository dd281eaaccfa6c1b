//! Who has a port: the kernel's socket tables by inode, and the process that holds that inode.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A process that has a port.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) pid: u32,
    name: String,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

/// The first port that users may open.
pub(crate) fn first_of_users() -> Option<u16> {
    fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").ok()?.trim().parse().ok()
}

/// The process whose socket stands in the way of that address.
pub(crate) fn of(address: SocketAddr, udp: bool) -> Option<Owner> {
    let tables = if udp { ["/proc/net/udp", "/proc/net/udp6"] } else { ["/proc/net/tcp", "/proc/net/tcp6"] };
    let inodes: Vec<u64> = tables
        .into_iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| inodes_in(&table, address, udp))
        .collect();
    if inodes.is_empty() { None } else { holder(&inodes) }
}

/// The inodes of the sockets in a table that an address collides with.
fn inodes_in(table: &str, address: SocketAddr, udp: bool) -> Vec<u64> {
    const LISTENING: &str = "0A";
    let collides = |local: SocketAddr| {
        local.port() == address.port()
            && (local.ip() == address.ip() || local.ip().is_unspecified() || address.ip().is_unspecified())
    };
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let local = parse_address(fields.nth(1)?)?;
            let state = fields.nth(1)?;
            let inode = fields.nth(5)?.parse().ok()?;
            (collides(local) && (udp || state == LISTENING)).then_some(inode)
        })
        .collect()
}

/// `0100007F:1F90`: the address as words in the machine's byte order, the port as a number.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words: Vec<[u8; 4]> = (0..address.len())
        .step_by(8)
        .map(|at| u32::from_str_radix(address.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes))
        .collect::<Option<_>>()?;
    let ip = match words.as_slice() {
        [word] => IpAddr::from(Ipv4Addr::from(*word)),
        [_, _, _, _] => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(words.concat()).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip.to_canonical(), port))
}

fn holder(inodes: &[u64]) -> Option<Owner> {
    let targets: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        for descriptor in fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten() {
            let holds = fs::read_link(descriptor.path())
                .is_ok_and(|link| link.to_str().is_some_and(|link| targets.iter().any(|target| target == link)));
            if holds {
                let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
                return Some(Owner { pid, name: name.trim().to_owned() });
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{inodes_in, parse_address};

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0000 100 0 0 10 0
   1: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4712 1 0000 100 0 0 10 0
   2: 0100007F:1F90 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 4713 1 0000 20 4 30 10 -1
   3: nonsense
";

    #[cfg(target_endian = "little")]
    #[test]
    fn addresses_are_words_in_the_machines_order() {
        assert_eq!(parse_address("0100007F:1F90"), Some("127.0.0.1:8080".parse().unwrap()));
        assert_eq!(parse_address("00000000000000000000000001000000:0050"), Some("[::1]:80".parse().unwrap()));
        for nonsense in ["", ":", "0100007F", "01:1F90", "0100007F:12345", "ééééé:1"] {
            assert_eq!(parse_address(nonsense), None, "{nonsense}");
        }
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn only_what_is_in_the_way_counts() {
        let find = |address: &str, udp| inodes_in(TABLE, address.parse().unwrap(), udp);
        assert_eq!(find("127.0.0.1:8080", false), [4711]);
        assert_eq!(find("0.0.0.0:8080", false), [4711]);
        assert_eq!(find("10.0.0.1:8080", false), Vec::<u64>::new());
        assert_eq!(find("10.0.0.1:80", false), [4712]);
        assert_eq!(find("127.0.0.1:8080", true), [4711, 4713]);
    }
}
