//! At which of the node's addresses node ports are served (B38, B39).

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::model::{Family, Range};

/// `--nodeport-addresses`: ranges, and the words that kube-proxy has for some.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodePortAddresses(Vec<Choice>);

/// Some of a node's addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Choice {
    /// The first address of each family that the Node object names.
    Primary,
    /// The loopback's.
    Localhost,
    /// All.
    All,
    /// Those in a range.
    In(Range),
}

/// A word that is none of these.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is neither a range, such as 10.0.0.0/8, nor one of primary, localhost and all")]
pub struct ChoiceError(String);

impl FromStr for NodePortAddresses {
    type Err = ChoiceError;

    fn from_str(text: &str) -> Result<Self, ChoiceError> {
        let choice = |word: &str| match word.trim() {
            "primary" => Ok(Choice::Primary),
            "localhost" => Ok(Choice::Localhost),
            "all" => Ok(Choice::All),
            word => Range::read(word).map(Choice::In).ok_or_else(|| ChoiceError(word.to_owned())),
        };
        text.split(',').map(choice).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for NodePortAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, choice) in self.0.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { "," })?;
            match choice {
                Choice::Primary => f.write_str("primary"),
                Choice::Localhost => f.write_str("localhost"),
                Choice::All => f.write_str("all"),
                Choice::In(range) => range.fmt(f),
            }?;
        }
        Ok(())
    }
}

impl NodePortAddresses {
    /// Those of `held`, the addresses that interfaces have but for link-local ones, of a node whose object names `node`.
    pub(super) fn of(&self, held: &BTreeSet<IpAddr>, node: &[IpAddr]) -> BTreeSet<IpAddr> {
        let primary = |family: Family| {
            node.iter().find(|addr| Family::of(addr) == family).filter(|addr| held.contains(addr))
        };
        let ranges = || {
            self.0.iter().filter_map(|choice| if let Choice::In(range) = choice { Some(range) } else { None })
        };
        // Of a family that no range is of all are meant, unless a word means some.
        let silent =
            |family| ranges().count() == self.0.len() && ranges().all(|range| range.family() != family);
        let serves = |addr: &&IpAddr| {
            let (family, loopback) = (Family::of(addr), addr.is_loopback());
            let chosen = |choice: &Choice| match choice {
                Choice::All => true,
                Choice::Localhost => loopback,
                // Unknown, it may be any.
                Choice::Primary => !loopback && primary(family).is_none_or(|primary| primary == *addr),
                Choice::In(range) => range.contains(addr) && loopback == range.addr.is_loopback(),
            };
            self.0.iter().any(chosen) || silent(family) && !loopback
        };
        held.iter().filter(serves).copied().collect()
    }

    /// Where health check node ports are, of a node that serves node ports at `addresses`: there, or where all of a family
    /// are meant at its unspecified address (B84).
    pub(super) fn listening(&self, addresses: &BTreeSet<IpAddr>) -> BTreeSet<IpAddr> {
        let all = Family::ALL.map(Family::any).into_iter().filter(|any| {
            self.0.iter().any(|choice| match choice {
                Choice::All => true,
                Choice::In(range) => range.bits == 0 && range.addr == *any,
                Choice::Primary | Choice::Localhost => false,
            })
        });
        let mut listening: BTreeSet<IpAddr> = all.collect();
        let some = |addr: &&IpAddr| !listening.iter().any(|any| Family::of(any) == Family::of(addr));
        let some: Vec<IpAddr> = addresses.iter().filter(some).copied().collect();
        listening.extend(some);
        listening
    }
}

/// Whether `addr` says nothing without an interface. Each has one, so they come and go with pods; no Service can have one.
pub(super) fn is_link_local(addr: &IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => addr.is_link_local(),
        IpAddr::V6(addr) => addr.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str) -> BTreeSet<IpAddr> {
        text.split_whitespace().map(|addr| addr.parse().unwrap()).collect()
    }

    #[test]
    fn b38_b39_addresses_are_chosen_as_kube_proxy_chooses_them() {
        let held = addresses("127.0.0.1 ::1 172.18.0.2 10.244.1.1 fd00::2 fd01::1");
        let node: Vec<IpAddr> = addresses("172.18.0.2 fd00::2").into_iter().collect();
        for (flag, expected) in [
            ("primary", "172.18.0.2 fd00::2"),
            ("primary,localhost", "172.18.0.2 fd00::2 127.0.0.1 ::1"),
            ("localhost", "127.0.0.1 ::1"),
            ("all", "127.0.0.1 ::1 172.18.0.2 10.244.1.1 fd00::2 fd01::1"),
            ("172.18.0.0/16,fd00::/64", "172.18.0.2 fd00::2"),
            ("172.18.0.0/16", "172.18.0.2 fd00::2 fd01::1"),
            ("172.18.0.0/16,primary", "172.18.0.2 fd00::2"),
            ("0.0.0.0/0,::/0", "172.18.0.2 10.244.1.1 fd00::2 fd01::1"),
            ("127.0.0.0/8,::1/128", "127.0.0.1 ::1"),
            ("192.0.2.0/24,2001:db8::/32", ""),
        ] {
            let chosen: NodePortAddresses = flag.parse().unwrap();
            assert_eq!(chosen.of(&held, &node), addresses(expected), "{flag}");
            assert_eq!(chosen.to_string(), flag);
        }
        let primary: NodePortAddresses = "primary".parse().unwrap();
        assert_eq!(primary.of(&held, &[]), addresses("172.18.0.2 10.244.1.1 fd00::2 fd01::1"), "not known");
        assert_eq!(
            primary.of(&held, &node[..1]),
            addresses("172.18.0.2 fd00::2 fd01::1"),
            "known of one family"
        );
    }

    #[test]
    fn b84_health_checks_are_where_node_ports_are() {
        let some = addresses("172.18.0.2 fd00::2");
        for (flag, expected) in [
            ("primary", "172.18.0.2 fd00::2"),
            ("all", "0.0.0.0 ::"),
            ("localhost,all", "0.0.0.0 ::"),
            ("0.0.0.0/0", "0.0.0.0 fd00::2"),
            ("0.0.0.0/0,::/0", "0.0.0.0 ::"),
            ("172.18.0.0/16", "172.18.0.2 fd00::2"),
        ] {
            let chosen: NodePortAddresses = flag.parse().unwrap();
            assert_eq!(chosen.listening(&some), addresses(expected), "{flag}");
        }
    }

    #[test]
    fn what_is_neither_is_refused_by_name() {
        for bad in ["", "Primary", "10.0.0.1", "primary,,all", "10.0.0.0/33"] {
            let error = bad.parse::<NodePortAddresses>().unwrap_err().to_string();
            assert!(error.contains("is neither a range"), "{error}");
        }
    }
}
