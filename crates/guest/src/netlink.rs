//! The few netlink messages that bring an interface up, so that nothing has to be installed for it.

use std::net::Ipv4Addr;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

use crate::error::Error;

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: [u8; 2] = 2_u16.to_ne_bytes();
const HEADER: usize = 16;
const IFF_UP: u32 = 1;
const AF_INET: u8 = 2;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RTN_UNICAST: u8 = 1;

/// Sets the flag that an interface is up.
pub(crate) fn link_up(interface: i32, what: &'static str) -> Result<(), Error> {
    let mut body = vec![0; 4]; // any family, any type
    body.extend_from_slice(&interface.to_ne_bytes());
    body.extend_from_slice(&IFF_UP.to_ne_bytes()); // flags
    body.extend_from_slice(&IFF_UP.to_ne_bytes()); // which of them change
    request(RTM_NEWLINK, 0, &body, what)
}

/// Gives an interface an address.
pub(crate) fn add_address(interface: i32, address: Ipv4Addr, prefix: u8, what: &'static str) -> Result<(), Error> {
    request(RTM_NEWADDR, NLM_F_CREATE, &of_address(interface, address, prefix), what)
}

/// Takes an address from it, and with it the routes that lead through it.
pub(crate) fn remove_address(interface: i32, address: Ipv4Addr, prefix: u8, what: &'static str) -> Result<(), Error> {
    request(RTM_DELADDR, 0, &of_address(interface, address, prefix), what)
}

fn of_address(interface: i32, address: Ipv4Addr, prefix: u8) -> Vec<u8> {
    let mut body = vec![AF_INET, prefix, 0, 0];
    body.extend_from_slice(&interface.to_ne_bytes());
    attribute(&mut body, IFA_LOCAL, address.octets());
    attribute(&mut body, IFA_ADDRESS, address.octets());
    body
}

/// Makes a gateway the way to everywhere.
pub(crate) fn add_default_route(interface: i32, gateway: Ipv4Addr, what: &'static str) -> Result<(), Error> {
    let mut body = vec![AF_INET, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, 0, RTN_UNICAST];
    body.extend_from_slice(&0_u32.to_ne_bytes()); // flags
    attribute(&mut body, RTA_GATEWAY, gateway.octets());
    attribute(&mut body, RTA_OIF, interface.to_ne_bytes());
    request(RTM_NEWROUTE, NLM_F_CREATE, &body, what)
}

/// All that is needed here have four bytes, which also is what they are aligned to.
fn attribute(body: &mut Vec<u8>, kind: u16, value: [u8; 4]) {
    body.extend_from_slice(&8_u16.to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(&value);
}

fn request(kind: u16, flags: u16, body: &[u8], what: &'static str) -> Result<(), Error> {
    let refused = || Error::System { what: what.to_owned(), source: Errno::EPROTO };
    let length = u32::try_from(HEADER + body.len()).map_err(|_| refused())?;
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend_from_slice(&length.to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&(NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
    message.extend_from_slice(&1_u32.to_ne_bytes()); // sequence
    message.extend_from_slice(&0_u32.to_ne_bytes()); // to the kernel
    message.extend_from_slice(body);

    let netlink = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)
        .map_err(Error::system(what))?;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&netlink);
    send(fd, &message, MsgFlags::empty()).map_err(Error::system(what))?;
    let mut answer = [0; 512];
    let read = recv(fd, &mut answer, MsgFlags::empty()).map_err(Error::system(what))?;
    let answer = answer.get(..read).ok_or_else(refused)?;
    if answer.get(4..6) != Some(NLMSG_ERROR.as_slice()) {
        return Err(refused());
    }
    let code: [u8; 4] = answer.get(HEADER..HEADER + 4).and_then(|bytes| bytes.try_into().ok()).ok_or_else(refused)?;
    match i32::from_ne_bytes(code) {
        0 => Ok(()),
        code => Err(Error::System { what: what.to_owned(), source: Errno::from_raw(-code) }),
    }
}
