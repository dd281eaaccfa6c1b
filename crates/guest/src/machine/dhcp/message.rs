//! Messages of DHCP: those that a client sends, and what it reads of those that it gets.

use std::net::Ipv4Addr;
use std::time::Duration;

const REQUEST: u8 = 1;
const REPLY: u8 = 2;
const ETHERNET: u8 = 1;
/// What follows is not for us alone: we could not get it before we have an address.
const BROADCAST: u16 = 0x8000;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Where options begin.
const OPTIONS: usize = 240;
/// Servers may drop what is shorter.
const SHORTEST: usize = 300;

const PAD: u8 = 0;
const MASK: u8 = 1;
const ROUTERS: u8 = 3;
const RESOLVERS: u8 = 6;
const WANTED_ADDRESS: u8 = 50;
const LEASE_TIME: u8 = 51;
const KIND: u8 = 53;
const SERVER: u8 = 54;
const WANTED_OPTIONS: u8 = 55;
const RENEWAL_TIME: u8 = 58;
const CLIENT: u8 = 61;
const END: u8 = 255;

/// Of a network that does not say how large it is.
const USUAL_PREFIX: u8 = 24;
const MOST_RESOLVERS: usize = 3;
/// Of a lease that does not say how long it holds.
const USUAL_TIME: u32 = 3600;
const TIMES: std::ops::RangeInclusive<u32> = 60..=365 * 24 * 3600;

/// What a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// Who has an address for me?
    Discover,
    /// I take the one that this server offered.
    Take { address: Ipv4Addr, server: Ipv4Addr },
    /// May I keep the one I have?
    Keep { address: Ipv4Addr },
}

/// What a server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Offer(Lease),
    Yes(Lease),
    No,
}

/// An address for a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) address: Ipv4Addr,
    pub(super) prefix: u8,
    pub(super) gateway: Option<Ipv4Addr>,
    pub(super) resolvers: Vec<Ipv4Addr>,
    pub(super) server: Ipv4Addr,
    pub(super) time: Duration,
    /// After which it is to be renewed.
    pub(super) renewal: Duration,
}

/// The question in bytes.
pub(super) fn question(question: Question, transaction: u32, hardware_address: [u8; 6]) -> Vec<u8> {
    let (kind, own) = match question {
        Question::Discover => (1, Ipv4Addr::UNSPECIFIED),
        Question::Take { .. } => (3, Ipv4Addr::UNSPECIFIED),
        Question::Keep { address } => (3, address),
    };
    let flags = if own.is_unspecified() { BROADCAST } else { 0 };
    let mut bytes = vec![REQUEST, ETHERNET, 6, 0];
    bytes.extend(transaction.to_be_bytes());
    bytes.extend([0, 0]); // seconds
    bytes.extend(flags.to_be_bytes());
    bytes.extend(own.octets());
    bytes.extend([0; 12]); // the servers' part
    bytes.extend(hardware_address);
    bytes.resize(OPTIONS - COOKIE.len(), 0);
    bytes.extend(COOKIE);
    bytes.extend([KIND, 1, kind, CLIENT, 7, ETHERNET]);
    bytes.extend(hardware_address);
    if let Question::Take { address, server } = question {
        bytes.extend([WANTED_ADDRESS, 4]);
        bytes.extend(address.octets());
        bytes.extend([SERVER, 4]);
        bytes.extend(server.octets());
    }
    bytes.extend([WANTED_OPTIONS, 5, MASK, ROUTERS, RESOLVERS, LEASE_TIME, RENEWAL_TIME, END]);
    bytes.resize(bytes.len().max(SHORTEST), PAD);
    bytes
}

/// What a message says, if it answers that question of ours and can be meant.
pub(super) fn answer(bytes: &[u8], transaction: u32, hardware_address: [u8; 6]) -> Option<Answer> {
    let ours = bytes.get(..3)? == [REPLY, ETHERNET, 6]
        && bytes.get(4..8)? == transaction.to_be_bytes()
        && bytes.get(28..34)? == hardware_address
        && bytes.get(OPTIONS - COOKIE.len()..OPTIONS)? == COOKIE;
    if !ours {
        return None;
    }
    let options = bytes.get(OPTIONS..)?;
    let lease = || lease(address(bytes.get(16..20)?)?, options);
    match option(options, KIND)? {
        [2] => lease().map(Answer::Offer),
        [5] => lease().map(Answer::Yes),
        [6] => Some(Answer::No),
        _ => None,
    }
}

fn lease(own: Ipv4Addr, options: &[u8]) -> Option<Lease> {
    let prefix = match option(options, MASK) {
        Some(mask) => prefix(mask)?,
        None => USUAL_PREFIX,
    };
    let resolvers = option(options, RESOLVERS).unwrap_or_default();
    let resolvers = resolvers.chunks_exact(4).filter_map(address).take(MOST_RESOLVERS).collect();
    let seconds = |kind: u8| Some(u32::from_be_bytes(option(options, kind)?.try_into().ok()?));
    let time = seconds(LEASE_TIME).unwrap_or(USUAL_TIME).clamp(*TIMES.start(), *TIMES.end());
    let renewal = seconds(RENEWAL_TIME).filter(|renewal| *renewal < time).unwrap_or(time / 2).max(*TIMES.start() / 2);
    Some(Lease {
        address: own,
        prefix,
        gateway: option(options, ROUTERS).and_then(|routers| address(routers.get(..4)?)),
        resolvers,
        server: address(option(options, SERVER)?)?,
        time: Duration::from_secs(time.into()),
        renewal: Duration::from_secs(renewal.into()),
    })
}

/// The content of the first option of that kind.
fn option(options: &[u8], kind: u8) -> Option<&[u8]> {
    let mut rest = options;
    loop {
        match rest {
            [PAD, after @ ..] => rest = after,
            [END, ..] | [] | [_] => return None,
            [found, length, after @ ..] => {
                let (content, after) = after.split_at_checked(usize::from(*length))?;
                if *found == kind {
                    return Some(content);
                }
                rest = after;
            }
        }
    }
}

/// An address that one device can have.
fn address(bytes: &[u8]) -> Option<Ipv4Addr> {
    let address = Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?);
    let none = address.is_unspecified() || address.is_broadcast() || address.is_multicast() || address.is_loopback();
    (!none).then_some(address)
}

fn prefix(mask: &[u8]) -> Option<u8> {
    let mask = u32::from_be_bytes(mask.try_into().ok()?);
    let ones = mask.leading_ones();
    (ones > 0 && mask.count_ones() == ones).then(|| u8::try_from(ones).ok()).flatten()
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::{Answer, COOKIE, OPTIONS, Question, answer, option, question};

    const CARD: [u8; 6] = [6, 1, 2, 3, 4, 5];

    /// A server's answer to a question, with these options.
    pub(crate) fn reply(question: &[u8], address: [u8; 4], options: &[u8]) -> Vec<u8> {
        let mut bytes = question[..OPTIONS].to_vec();
        bytes[0] = 2;
        bytes[16..20].copy_from_slice(&address);
        bytes.extend(options);
        bytes
    }

    /// The kind of a question.
    pub(crate) fn kind(question: &[u8]) -> u8 {
        option(&question[OPTIONS..], super::KIND).unwrap()[0]
    }

    #[test]
    fn a_whole_answer_is_a_lease() {
        let asked = question(Question::Discover, 7, CARD);
        assert_eq!((asked.len(), asked[10], kind(&asked)), (300, 0x80, 1));
        assert_eq!(asked[OPTIONS - 4..OPTIONS], COOKIE);
        let options = [
            53, 1, 5, 0, 0, 1, 4, 255, 255, 255, 0, 3, 8, 192, 168, 64, 1, 192, 168, 64, 9, 6, 16, 192, 168, 64, 1, 0,
            0, 0, 0, 8, 8, 8, 8, 9, 9, 9, 9, 51, 4, 0, 1, 0x51, 0x80, 54, 4, 192, 168, 64, 1, 12, 2, b'm', b'e', 255,
            1, 1,
        ];
        let Some(Answer::Yes(lease)) = answer(&reply(&asked, [192, 168, 64, 3], &options), 7, CARD) else {
            panic!("no lease")
        };
        let gateway = Ipv4Addr::new(192, 168, 64, 1);
        assert_eq!((lease.address, lease.prefix), (Ipv4Addr::new(192, 168, 64, 3), 24));
        assert_eq!((lease.gateway, lease.server), (Some(gateway), gateway));
        assert_eq!(lease.resolvers, [gateway, Ipv4Addr::new(8, 8, 8, 8), Ipv4Addr::new(9, 9, 9, 9)]);
        assert_eq!((lease.time, lease.renewal), (Duration::from_secs(86_400), Duration::from_secs(43_200)));
    }

    #[test]
    fn what_is_taken_and_what_is_kept_are_asked_for_differently() {
        let address = Ipv4Addr::new(10, 0, 2, 15);
        let taken = question(Question::Take { address, server: Ipv4Addr::new(10, 0, 2, 2) }, 7, CARD);
        assert_eq!(option(&taken[OPTIONS..], super::WANTED_ADDRESS), Some([10, 0, 2, 15].as_slice()));
        assert_eq!(option(&taken[OPTIONS..], super::SERVER), Some([10, 0, 2, 2].as_slice()));
        let kept = question(Question::Keep { address }, 7, CARD);
        assert_eq!((kept[12..16].to_vec(), kept[10]), (vec![10, 0, 2, 15], 0), "it can be answered at its address");
        assert_eq!(option(&kept[OPTIONS..], super::WANTED_ADDRESS), None);
        assert_eq!((kind(&taken), kind(&kept)), (3, 3));
    }

    #[test]
    fn what_cannot_be_meant_is_passed_over() {
        let asked = question(Question::Discover, 7, CARD);
        let good = [53, 1, 2, 54, 4, 10, 0, 2, 2, 1, 4, 255, 255, 255, 0, 255];
        let offer = reply(&asked, [10, 0, 2, 15], &good);
        assert!(matches!(answer(&offer, 7, CARD), Some(Answer::Offer(_))));
        assert_eq!(answer(&offer, 8, CARD), None, "another's question");
        assert_eq!(answer(&offer, 7, [6; 6]), None, "another's card");
        for end in 0..offer.len() {
            // Cut anywhere, it must only not be understood.
            let _ = answer(&offer[..end], 7, CARD);
        }
        let cases: [([u8; 4], &[u8]); 10] = [
            ([0, 0, 0, 0], &good),
            ([127, 0, 0, 1], &good),
            ([255, 255, 255, 255], &good),
            ([10, 0, 2, 15], &[53, 1, 2, 255]),
            ([10, 0, 2, 15], &[53, 1, 2, 54, 4, 10, 0, 2, 2, 1, 4, 255, 0, 255, 0]),
            ([10, 0, 2, 15], &[53, 1, 2, 54, 4, 10, 0, 2, 2, 1, 4, 0, 0, 0, 0]),
            ([10, 0, 2, 15], &[53, 200, 2]),
            ([10, 0, 2, 15], &[53]),
            ([10, 0, 2, 15], &[53, 0]),
            ([10, 0, 2, 15], &[]),
        ];
        for (address, options) in cases {
            assert_eq!(answer(&reply(&asked, address, options), 7, CARD), None, "{address:?} {options:?}");
        }
        assert_eq!(answer(&reply(&asked, [0; 4], &[53, 1, 6]), 7, CARD), Some(Answer::No));
    }

    #[test]
    fn times_are_such_that_they_can_be_waited_for() {
        let asked = question(Question::Discover, 7, CARD);
        for time in [[0, 0, 0, 0], [0xff; 4]] {
            let options = [&[53, 1, 5, 54, 4, 10, 0, 2, 2, 51, 4], time.as_slice(), &[58, 4, 0, 0, 0, 0]].concat();
            let Some(Answer::Yes(lease)) = answer(&reply(&asked, [10, 0, 2, 15], &options), 7, CARD) else {
                panic!("no lease")
            };
            assert!(lease.time >= Duration::from_secs(60) && lease.time <= Duration::from_secs(365 * 24 * 3600));
            assert!(lease.renewal >= Duration::from_secs(30) && lease.renewal < lease.time);
        }
    }
}
