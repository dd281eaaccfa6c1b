//! Questions to whoever gives addresses, and the wait for the answers.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};

use super::message::{Answer, Lease, Question, answer, question};
use crate::error::Error;
use crate::machine::card::Card;

const SERVERS: u16 = 67;
const CLIENTS: u16 = 68;
/// Of a message, in bytes: more than any that is not cut in pieces.
const LONGEST: usize = 1500;
/// How long each try waits for its answer.
const TRIES: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(8)];
/// Offers that are taken before the question is given up.
const OFFERS: u32 = 3;

/// Asks in the network of one card.
#[derive(Debug)]
pub(super) struct Client {
    socket: UdpSocket,
    hardware_address: [u8; 6],
}

impl Client {
    pub(super) fn new(card: &Card) -> Result<Self, Error> {
        let what = "asking for an address";
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, CLIENTS)).map_err(Error::io(what))?;
        setsockopt(&socket, sockopt::BindToDevice, &OsString::from(&card.name)).map_err(Error::system(what))?;
        socket.set_broadcast(true).map_err(Error::io(what))?;
        Ok(Self { socket, hardware_address: card.hardware_address })
    }

    /// Gets an address.
    pub(super) fn obtain(&self) -> Result<Lease, Error> {
        for _ in 0..OFFERS {
            let Answer::Offer(offer) = self.ask(Question::Discover, |answer| matches!(answer, Answer::Offer(_)))?
            else {
                continue;
            };
            let (address, server) = (offer.address, offer.server);
            let is_last = |answer: &Answer| matches!(answer, Answer::Yes(_) | Answer::No);
            if let Answer::Yes(lease) = self.ask(Question::Take { address, server }, is_last)? {
                return Ok(lease);
            }
        }
        Err(Error::Machine("the network offers addresses and does not give them".to_owned()))
    }

    /// Asks whether an address may be kept; none when it may not.
    pub(super) fn renew(&self, address: Ipv4Addr) -> Result<Option<Lease>, Error> {
        let is_last = |answer: &Answer| matches!(answer, Answer::Yes(_) | Answer::No);
        match self.ask(Question::Keep { address }, is_last)? {
            Answer::Yes(lease) => Ok(Some(lease)),
            _ => Ok(None),
        }
    }

    /// Asks until there is an answer that is wanted.
    fn ask(&self, asked: Question, wanted: impl Fn(&Answer) -> bool) -> Result<Answer, Error> {
        let transaction = random().map_err(Error::io("choosing a number"))?;
        let text = question(asked, transaction, self.hardware_address);
        let mut failed = None;
        for patience in TRIES {
            let deadline = Instant::now() + patience;
            if let Err(error) = self.socket.send_to(&text, (Ipv4Addr::BROADCAST, SERVERS)) {
                failed = Some(error);
            }
            while let Some(answer) = self.hear(transaction, deadline).map_err(Error::io("hearing of an address"))? {
                if wanted(&answer) {
                    return Ok(answer);
                }
            }
        }
        let silent = || Error::Machine("nobody in its network answers who gives addresses (DHCP)".to_owned());
        Err(failed.map_or_else(silent, Error::io("asking for an address")))
    }

    /// The next answer to that question; none when there was no more time.
    fn hear(&self, transaction: u32, deadline: Instant) -> io::Result<Option<Answer>> {
        let mut buffer = [0; LONGEST];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.socket.set_read_timeout(Some(left))?;
            let length = match self.socket.recv(&mut buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let heard = buffer.get(..length).and_then(|bytes| answer(bytes, transaction, self.hardware_address));
            if heard.is_some() {
                return Ok(heard);
            }
        }
    }
}

fn random() -> io::Result<u32> {
    let mut bytes = [0; 4];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u32::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::net::{Ipv4Addr, UdpSocket};
    use std::process::Command;

    use nix::sched::{CloneFlags, unshare};
    use nix::sys::socket::{setsockopt, sockopt};

    use super::super::message::tests::{kind, reply};
    use super::{CLIENTS, Client, LONGEST, SERVERS};
    use crate::machine::card::Card;

    /// A pair of cards in a network of this thread's own; not where nobody may make one.
    fn cards() -> bool {
        let network = [
            "link add berth-here type veth peer name berth-there",
            "link set lo up",
            "link set berth-here up",
            "link set berth-there up",
            "addr add 10.9.8.1/24 dev berth-there",
        ];
        let ip = |words: &str| Command::new("ip").args(words.split(' ')).status().is_ok_and(|status| status.success());
        // Both ends are here: what comes in has an address of this network's own.
        let settings = [("berth-here/accept_local", "1"), ("berth-here/rp_filter", "0"), ("all/rp_filter", "0")];
        let set = |(name, value)| std::fs::write(format!("/proc/sys/net/ipv4/conf/{name}"), value).is_ok();
        nix::unistd::geteuid().is_root()
            && unshare(CloneFlags::CLONE_NEWNET).is_ok()
            && network.into_iter().all(ip)
            && settings.into_iter().all(set)
    }

    fn bind(port: u16, card: &str) -> UdpSocket {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
        setsockopt(&socket, sockopt::BindToDevice, &OsString::from(card)).unwrap();
        socket.set_broadcast(true).unwrap();
        socket
    }

    #[test]
    fn an_address_is_got_and_kept_and_lost() {
        if !cards() {
            return;
        }
        let server = bind(SERVERS, "berth-there");
        let serving = std::thread::spawn(move || {
            let mut buffer = [0; LONGEST];
            let mut asked = Vec::new();
            // What it answers to each question; the first one gets none.
            for answer in [None, Some(2), Some(5), Some(5), Some(6)] {
                let length = server.recv(&mut buffer).unwrap();
                let question = &buffer[..length];
                asked.push((kind(question), question[12..16].to_vec()));
                let Some(answer) = answer else { continue };
                let options = [53, 1, answer, 54, 4, 10, 9, 8, 1, 51, 4, 0, 0, 0, 120, 1, 4, 255, 255, 255, 0, 255];
                let (other, said) =
                    (reply(question, [10, 9, 8, 66], &[53, 1, answer]), reply(question, [10, 9, 8, 7], &options));
                for message in [b"nonsense".as_slice(), &other, &said] {
                    server.send_to(message, (Ipv4Addr::BROADCAST, CLIENTS)).unwrap();
                }
            }
            asked
        });
        let card = Card { name: "berth-here".to_owned(), number: 0, hardware_address: [6, 1, 2, 3, 4, 5] };
        let client = Client::new(&card).unwrap();
        let lease = client.obtain().unwrap();
        assert_eq!((lease.address, lease.prefix), (Ipv4Addr::new(10, 9, 8, 7), 24));
        assert_eq!(client.renew(lease.address).unwrap(), Some(lease.clone()));
        assert_eq!(client.renew(lease.address).unwrap(), None);
        let none = vec![0; 4];
        let own = vec![10, 9, 8, 7];
        let asked = serving.join().unwrap();
        assert_eq!(asked, [(1, none.clone()), (1, none.clone()), (3, none), (3, own.clone()), (3, own)]);
    }
}
