//! Netfilter's chains through which forwarded packets go.

use std::convert::Infallible;
use std::fmt;
use std::fs;
use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr as Kernel};
use rtnetlink::packet_core::{
    NLM_F_DUMP, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable, NlaBuffer, NlasIterator,
};

use super::ask::ask;

/// `NFNL_SUBSYS_NFTABLES`, in the upper byte of a message's type (linux/netfilter/nfnetlink.h).
const NFTABLES: u16 = 10 << 8;
/// `NFT_MSG_GETCHAIN` (linux/netfilter/nf_tables.h).
const GET_CHAIN: u16 = NFTABLES | 4;
/// Length of `struct nfgenmsg`, which begins with the family.
const HEADER: usize = 4;
/// `NF_DROP`, as a policy.
const DROP: u32 = 0;

/// What packets on their way through the node would be asked by the host stack.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Chain(String);

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The chains of this thread's network namespace that may decide about packets which the node forwards: those of nftables
/// that hold rules or drop, iptables' by that included, and the tables of the older iptables, which do not tell whether they
/// hold any. What masquerades on the way out is among them: of a connection from outside the stack would see the pod's answers
/// alone, take them for a connection of the pod's own, and give them the node's address.
///
/// # Errors
/// The kernel refused to list them.
pub fn deciding() -> io::Result<Vec<Chain>> {
    let mut found: Vec<Chain> = chains()?.iter().filter_map(NfChain::decides).collect();
    for (program, file) in [("iptables", "ip_tables_names"), ("ip6tables", "ip6_tables_names")] {
        let tables = match fs::read_to_string(format!("/proc/thread-self/net/{file}")) {
            // There never was a table.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            read => read?,
        };
        found.extend(tables.lines().map(|table| Chain(format!("{program} (legacy) table {table}"))));
    }
    Ok(found)
}

fn chains() -> io::Result<Vec<NfChain>> {
    let socket = match Socket::new(NETLINK_NETFILTER) {
        Ok(socket) => socket,
        Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    socket.connect(&Kernel::new(0, 0))?;
    match ask(&socket, ListChains, NLM_F_DUMP, Some) {
        // The kernel has no nftables.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => Ok(Vec::new()),
        asked => asked,
    }
}

/// Asks for the chains of all families.
struct ListChains;

impl NetlinkSerializable for ListChains {
    fn message_type(&self) -> u16 {
        GET_CHAIN
    }

    fn buffer_len(&self) -> usize {
        HEADER
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.fill(0);
    }
}

/// A chain of nftables. What it does not say is unset.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct NfChain {
    family: u8,
    table: String,
    name: String,
    /// Where packets enter it from; none if other chains alone lead there.
    hook: Option<u32>,
    policy: Option<u32>,
    rules: u32,
}

/// Numbers of attributes (linux/netfilter/nf_tables.h).
mod attribute {
    pub(super) const TABLE: u16 = 1;
    pub(super) const NAME: u16 = 3;
    pub(super) const HOOK: u16 = 4;
    pub(super) const POLICY: u16 = 5;
    pub(super) const USE: u16 = 6;
    /// Within `HOOK`.
    pub(super) const NUMBER: u16 = 1;
}

fn attributes(bytes: &[u8]) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(bytes).flatten()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
}

fn number(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_be_bytes)
}

impl NetlinkDeserializable for NfChain {
    type Error = Infallible;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, Self::Error> {
        let mut chain = Self { family: payload.first().copied().unwrap_or_default(), ..Self::default() };
        for found in attributes(payload.get(HEADER..).unwrap_or_default()) {
            let value = found.value();
            match found.kind() {
                attribute::TABLE => chain.table = text(value),
                attribute::NAME => chain.name = text(value),
                attribute::POLICY => chain.policy = number(value),
                // Of a chain with a hook nothing but its rules is counted.
                attribute::USE => chain.rules = number(value).unwrap_or_default(),
                attribute::HOOK => {
                    let hook = attributes(value).find(|inner| inner.kind() == attribute::NUMBER);
                    chain.hook = hook.and_then(|hook| number(hook.value()));
                }
                _ => {}
            }
        }
        Ok(chain)
    }
}

impl NfChain {
    /// The chain, if it may decide about packets that are forwarded.
    fn decides(&self) -> Option<Chain> {
        // prerouting, forward, postrouting; ingress of an interface, which comes after tc, and its egress.
        let (family, hooks): (_, &[u32]) = match self.family {
            1 => ("inet", &[0, 2, 4, 5]),
            2 => ("ip", &[0, 2, 4]),
            5 => ("netdev", &[0, 1]),
            7 => ("bridge", &[0, 2, 4]),
            10 => ("ip6", &[0, 2, 4]),
            _ => return None,
        };
        self.hook.filter(|hook| hooks.contains(hook))?;
        let what = match self.rules {
            0 if self.policy == Some(DROP) => "has policy drop".to_owned(),
            0 => return None,
            1 => "holds 1 rule".to_owned(),
            rules => format!("holds {rules} rules"),
        };
        Some(Chain(format!("nftables chain {family} {} {} {what}", self.table, self.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(family: u8, hook: u32, rules: u32, policy: u32) -> NfChain {
        NfChain {
            family,
            table: "t".to_owned(),
            name: "c".to_owned(),
            hook: Some(hook),
            policy: Some(policy),
            rules,
        }
    }

    #[test]
    fn chains_that_forwarded_packets_meet_decide_if_they_hold_anything() {
        for (family, hook, rules, policy, expected) in [
            (1, 2, 3, 1, Some("nftables chain inet t c holds 3 rules")),
            (2, 2, 0, 0, Some("nftables chain ip t c has policy drop")),
            (10, 0, 1, 1, Some("nftables chain ip6 t c holds 1 rule")),
            (2, 0, 1, 1, Some("nftables chain ip t c holds 1 rule")),
            (2, 4, 9, 1, Some("nftables chain ip t c holds 9 rules")),
            (5, 0, 1, 1, Some("nftables chain netdev t c holds 1 rule")),
            (7, 2, 1, 1, Some("nftables chain bridge t c holds 1 rule")),
            (2, 2, 0, 1, None),
            (2, 1, 9, 0, None),
            (2, 3, 9, 0, None),
            (3, 0, 9, 0, None),
        ] {
            let found = chain(family, hook, rules, policy).decides().map(|chain| chain.to_string());
            assert_eq!(found.as_deref(), expected, "{family} {hook}");
        }
        assert_eq!(NfChain { hook: None, ..chain(2, 2, 9, 1) }.decides(), None);
    }

    #[test]
    fn a_chain_is_read_from_its_attributes() {
        let attribute = |kind: u16, value: &[u8]| {
            let mut bytes = (4 + value.len() as u16).to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        let number = |kind, value: u32| attribute(kind, &value.to_be_bytes());
        let payload = [
            vec![1, 0, 0, 0],
            attribute(attribute::TABLE, b"t\0"),
            attribute(attribute::NAME, b"c\0"),
            attribute(attribute::HOOK | 0x8000, &number(attribute::NUMBER, 2)),
            number(attribute::POLICY, 1),
            number(attribute::USE, 3),
        ];
        let Ok(read) = NfChain::deserialize(&NetlinkHeader::default(), &payload.concat());
        assert_eq!(read, chain(1, 2, 3, 1));
    }
}
