//! An address for the network card, of whoever gives them there, and its renewal for as long as the machine runs.
//!
//! As much of DHCP (RFC 2131) as a machine needs whose network is one computer: what is renewed is asked for by broadcast,
//! for there is nobody else to hear it.

mod client;
mod message;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::card::{self, Card};
use crate::error::Error;
use crate::netlink;
use client::Client;
use message::Lease;

/// Between two rounds of asking somebody who does not answer.
const AGAIN: Duration = Duration::from_secs(15);
/// A renewal that is not answered is tried again after half of what is left, and not sooner.
const SHORTEST: Duration = Duration::from_secs(30);
const WHAT: &str = "giving the network card its address";

/// Gets an address, and leaves a thread that keeps it. Gives what the user should know of it.
pub(super) fn keep(card: Card) -> Result<Option<String>, Error> {
    let client = Client::new(&card)?;
    let (lease, warning) = match client.obtain() {
        Ok(lease) => (Some(lease), None),
        Err(error) => (None, Some(format!("the machine has no address yet, and containers reach nothing: {error}"))),
    };
    if let Some(lease) = &lease {
        take(&card, lease)?;
    }
    let renewing = std::thread::Builder::new().name("dhcp".to_owned());
    renewing.spawn(move || renew(&client, &card, lease)).map_err(Error::io("starting to renew the address"))?;
    Ok(warning)
}

fn take(card: &Card, lease: &Lease) -> Result<(), Error> {
    netlink::add_address(card.number, lease.address, lease.prefix, WHAT)?;
    if let Some(gateway) = lease.gateway {
        netlink::add_default_route(card.number, gateway, WHAT)?;
    }
    card::resolve_by(&lease.resolvers)
}

fn leave(card: &Card, lease: &Lease) {
    let _ = netlink::remove_address(card.number, lease.address, lease.prefix, WHAT);
}

/// Never returns: a machine without an address goes on asking.
fn renew(client: &Client, card: &Card, mut lease: Option<Lease>) {
    loop {
        lease = match lease {
            Some(lease) => keep_lease(client, card, &lease),
            None => {
                std::thread::sleep(AGAIN);
                client.obtain().ok().filter(|lease| took(card, lease))
            }
        };
    }
}

/// Renews it until that fails for good; gives what followed it.
fn keep_lease(client: &Client, card: &Card, lease: &Lease) -> Option<Lease> {
    let end = Instant::now() + lease.time;
    std::thread::sleep(lease.renewal);
    loop {
        match client.renew(lease.address) {
            Ok(Some(next)) if same(&next, lease) => return Some(next),
            Ok(Some(next)) => {
                leave(card, lease);
                return Some(next).filter(|next| took(card, next));
            }
            // It is somebody else's by now.
            Ok(None) => break,
            Err(_) => {}
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        std::thread::sleep((left / 2).max(SHORTEST).min(left));
    }
    leave(card, lease);
    client.obtain().ok().filter(|lease| took(card, lease))
}

fn took(card: &Card, lease: &Lease) -> bool {
    take(card, lease)
        .inspect_err(|error| {
            use std::io::Write as _;
            let _ = writeln!(std::io::stderr(), "berth-guest: {error}");
        })
        .is_ok()
}

fn same(one: &Lease, other: &Lease) -> bool {
    let of = |lease: &Lease| -> (Ipv4Addr, u8, Option<Ipv4Addr>) { (lease.address, lease.prefix, lease.gateway) };
    of(one) == of(other)
}
