//! Who is masqueraded: the flags, with kube-proxy's names and meaning (B78, B80), and what they make of settings.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use clap::ValueEnum;
use glob::Pattern;
use lb_common::{Address, Config, Prefix, config_flags};
use tracing::warn;

use super::cidr::{Cidr, CidrError};
use crate::net::interface::{Framing, Interface};
use crate::net::watch::Network;
use crate::status::Problem;

/// What `sluice agent` is told about masquerading.
#[derive(Clone, Debug)]
pub struct Flags {
    /// `--masquerade-all`.
    pub all: bool,
    /// `--detect-local-mode`.
    pub mode: Option<Mode>,
    /// `--cluster-cidr`.
    pub cluster_cidr: Ranges,
    /// `--pod-bridge-interface`; empty if it is not given.
    pub bridge: String,
    /// `--pod-interface-name-prefix`; empty if it is not given.
    pub prefix: String,
    /// `--uplinks`.
    pub uplinks: Option<Vec<Pattern>>,
    /// `--overlays`.
    pub overlays: Option<Vec<Pattern>>,
}

/// How local clients are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Mode {
    /// By their address, which is in `--cluster-cidr`.
    #[value(name = "ClusterCIDR")]
    ClusterCidr,
    /// By their address, which is in `spec.podCIDRs` of the Node.
    #[value(name = "NodeCIDR")]
    NodeCidr,
    /// By the bridge that the host sees them behind, `--pod-bridge-interface`.
    #[value(name = "BridgeInterface")]
    BridgeInterface,
    /// By the name of the interface that the host sees them behind, which begins with `--pod-interface-name-prefix`.
    #[value(name = "InterfaceNamePrefix")]
    InterfaceNamePrefix,
}

/// At most one range of each family.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ranges(Vec<Cidr>);

/// What is wrong with a list of ranges.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RangesError {
    /// One of them is none.
    #[error(transparent)]
    Cidr(#[from] CidrError),
    /// More than one of a family.
    #[error("{first} and {second} are of one family: at most one range of each is wanted")]
    Family {
        /// The first of the family.
        first: Cidr,
        /// The second.
        second: Cidr,
    },
}

impl Ranges {
    /// Reads such a list.
    ///
    /// # Errors
    /// One is no range, or not the first of its family.
    fn read<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, RangesError> {
        let mut ranges: Vec<Cidr> = Vec::new();
        for text in texts {
            let second: Cidr = text.parse()?;
            let of_one = |first: &&Cidr| first.is_ipv4() == second.is_ipv4();
            if let Some(first) = ranges.iter().find(of_one) {
                return Err(RangesError::Family { first: *first, second });
            }
            ranges.push(second);
        }
        Ok(Self(ranges))
    }

    /// The range of one family, for the programs; empty if there is none.
    #[must_use]
    pub fn prefix<A: Address>(&self) -> Prefix<A> {
        let none = Prefix { addr: A::default(), bits: 0, pad: [0; 3] };
        self.0.iter().find_map(Cidr::prefix).unwrap_or(none)
    }
}

impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join(", "))
    }
}

impl FromStr for Ranges {
    type Err = RangesError;

    fn from_str(text: &str) -> Result<Self, RangesError> {
        Self::read(text.split(',').filter(|_| !text.is_empty()))
    }
}

/// Flags that contradict each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FlagsError {
    /// A mode lacks what it needs.
    #[error("--detect-local-mode {mode} needs {flag}")]
    Missing {
        /// The mode.
        mode: &'static str,
        /// The flag that is not there.
        flag: &'static str,
    },
    /// A flag belongs to another mode.
    #[error("{flag} says nothing without --detect-local-mode {mode}")]
    Idle {
        /// The flag.
        flag: &'static str,
        /// The mode that reads it.
        mode: &'static str,
    },
}

impl Flags {
    /// Whether the flags fit together.
    ///
    /// # Errors
    /// The first flag that does not.
    pub fn check(&self) -> Result<(), FlagsError> {
        let mode = self.mode;
        let pairs = [
            (Mode::BridgeInterface, "BridgeInterface", "--pod-bridge-interface", &self.bridge),
            (Mode::InterfaceNamePrefix, "InterfaceNamePrefix", "--pod-interface-name-prefix", &self.prefix),
        ];
        for (reader, name, flag, value) in pairs {
            match (mode == Some(reader), value.is_empty()) {
                (true, true) => return Err(FlagsError::Missing { mode: name, flag }),
                (false, false) => return Err(FlagsError::Idle { flag, mode: name }),
                _ => {}
            }
        }
        match (mode, self.cluster_cidr.0.is_empty()) {
            (Some(Mode::ClusterCidr), true) => {
                Err(FlagsError::Missing { mode: "ClusterCIDR", flag: "--cluster-cidr" })
            }
            (Some(Mode::ClusterCidr) | None, _) | (Some(_), true) => Ok(()),
            (Some(_), false) => {
                // As in many a kube-proxy's configuration.
                warn!("--cluster-cidr says nothing without --detect-local-mode ClusterCIDR");
                Ok(())
            }
        }
    }

    /// Puts into `config` what the flags say by themselves.
    pub(super) fn settle(&self, config: &mut Config) {
        if self.all {
            // A socket hook cannot masquerade.
            config.flags |= config_flags::MASQUERADE_ALL | config_flags::SOCKET_LB_HOST;
        }
        match self.mode {
            None | Some(Mode::ClusterCidr) => {
                (config.local4, config.local6) = (self.cluster_cidr.prefix(), self.cluster_cidr.prefix());
            }
            Some(Mode::NodeCidr) => {}
            Some(Mode::BridgeInterface | Mode::InterfaceNamePrefix) => {
                config.flags |= config_flags::DETECT_INTERFACE;
            }
        }
    }

    /// Whether local clients are told by the Node's ranges.
    pub(super) fn by_node(&self) -> bool {
        self.mode == Some(Mode::NodeCidr)
    }

    /// NodeCIDR: the ranges of local clients, given the Node's; nothing if another mode tells them. What is wrong with
    /// them is a problem, and then none is local or not.
    pub(super) fn node_ranges(&self, pod_cidrs: &[String]) -> Option<Result<Ranges, Problem>> {
        if !self.by_node() {
            return None;
        }
        let problem = |what: &str| {
            let text = format!("{what}: all clients count as local until it has");
            Problem::new("--detect-local-mode NodeCIDR", text)
        };
        if pod_cidrs.is_empty() {
            return Some(Err(problem("the Node object has no spec.podCIDRs yet")));
        }
        let ranges = Ranges::read(pod_cidrs.iter().map(String::as_str));
        Some(
            ranges
                .map_err(|error| problem(&format!("the Node object has no usable spec.podCIDRs ({error})"))),
        )
    }

    /// Whether clients that come by `interface` are local.
    pub(super) fn is_local(&self, interface: &Interface, network: &Network) -> bool {
        // The host sees a packet that comes by a port of a bridge behind the bridge.
        let master = interface.master.and_then(|index| network.interfaces.get(&index));
        let seen = master.filter(|master| master.bridge).unwrap_or(interface);
        match self.mode {
            Some(Mode::BridgeInterface) => seen.name == self.bridge,
            Some(Mode::InterfaceNamePrefix) => seen.name.starts_with(&self.prefix),
            Some(Mode::ClusterCidr | Mode::NodeCidr) | None => false,
        }
    }

    /// Whether `interface` leads out of the node, and to what; `node`: the addresses of the Node object.
    pub(super) fn leads(
        &self,
        (index, interface): (u32, &Interface),
        network: &Network,
        node: &[IpAddr],
    ) -> Option<Leads> {
        let matches = |globs: &[Pattern]| globs.iter().any(|glob| glob.matches(&interface.name));
        let found = network.routes.default.contains(&index)
            || node.iter().any(|addr| network.places.get(addr) == Some(&index));
        let uplink = self.uplinks.as_ref().map_or(found, |globs| matches(globs));
        let overlay = match &self.overlays {
            Some(globs) => matches(globs),
            None => {
                // Pods are not behind such a link, nor is it one that --uplinks leaves out.
                let bare = interface.framing == Framing::Bare && !uplink && !found;
                (interface.overlay || bare) && network.routes.any.contains(&index)
            }
        };
        let loopback = interface.inner && !interface.bridge;
        match (uplink, overlay) {
            _ if loopback => None,
            (_, true) => Some(Leads::Overlay),
            (true, false) => Some(Leads::Uplink),
            (false, false) => None,
        }
    }
}

/// Where an interface leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Leads {
    /// Out of the node.
    Uplink,
    /// To other nodes, by a tunnel.
    Overlay,
}

#[cfg(test)]
mod tests {
    use lb_common::{Addr4, Addr6};

    use super::*;
    use crate::agent::args::Args;

    fn parse(text: &str) -> Result<Flags, String> {
        let flags = Args::of(text)?.masquerade();
        flags.check().map_err(|error| error.to_string())?;
        Ok(flags)
    }

    fn config(text: &str) -> Config {
        let mut config = Config::DEFAULT;
        parse(text).unwrap().settle(&mut config);
        config
    }

    #[test]
    fn b80_without_a_detector_all_clients_are_local() {
        for text in ["", "--cluster-cidr=", "--masquerade-all=false"] {
            assert_eq!(config(text), Config::DEFAULT, "{text}");
        }
    }

    #[test]
    fn b78_masquerade_all_leaves_the_sockets_of_pods_alone() {
        for text in ["--masquerade-all", "--masquerade-all=true"] {
            let flags = config_flags::MASQUERADE_ALL | config_flags::SOCKET_LB_HOST;
            assert_eq!(config(text).flags, flags, "{text}");
        }
    }

    #[test]
    fn b80_a_cluster_cidr_is_enough_for_a_detector() {
        for text in [
            "--cluster-cidr 10.244.0.0/16,fd00::/48",
            "--detect-local-mode ClusterCIDR --cluster-cidr fd00::/48,10.244.0.0/16",
        ] {
            let config = config(text);
            assert!(config.local4.contains(&Addr4([10, 244, 3, 4])), "{text}");
            assert_eq!((config.local6.bits, config.flags), (48, 0), "{text}");
        }
        let one = config("--cluster-cidr 10.244.0.0/16");
        assert!(one.local_range::<Addr6>().is_empty(), "no detector for the other family");
    }

    #[test]
    fn b80_flags_that_do_not_fit_together_are_refused_by_name() {
        for (text, words) in [
            ("--detect-local-mode ClusterCIDR", "ClusterCIDR needs --cluster-cidr"),
            ("--detect-local-mode BridgeInterface", "BridgeInterface needs --pod-bridge-interface"),
            ("--detect-local-mode InterfaceNamePrefix", "needs --pod-interface-name-prefix"),
            ("--pod-bridge-interface cni0", "--pod-bridge-interface says nothing without"),
            (
                "--detect-local-mode BridgeInterface --pod-bridge-interface cni0 --pod-interface-name-prefix v",
                "--pod-interface-name-prefix says nothing without",
            ),
            ("--cluster-cidr 10.0.0.0/8,10.1.0.0/16", "are of one family"),
            ("--cluster-cidr 10.0.0.0", "is no range"),
            ("--detect-local-mode Bridge", "ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix"),
        ] {
            let error = parse(text).err().unwrap_or_default();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn b80_the_nodes_ranges_are_waited_for() {
        let flags = parse("--detect-local-mode NodeCIDR").unwrap();
        let ranges = |texts: &[&str]| {
            flags.node_ranges(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).unwrap()
        };
        assert!(ranges(&[]).unwrap_err().text.contains("no spec.podCIDRs yet"));
        assert!(ranges(&["10.244.1.0"]).unwrap_err().text.contains("no usable spec.podCIDRs"));
        let found = ranges(&["10.244.1.0/24", "fd00:1::/64"]).unwrap();
        assert_eq!((found.prefix::<Addr4>().bits, found.prefix::<Addr6>().bits), (24, 64));
        assert!(parse("").unwrap().node_ranges(&[]).is_none());
    }
}
