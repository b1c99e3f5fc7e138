//! The record of settings that the programs read.

use std::net::IpAddr;

use lb_common::maps::CONFIG;
use lb_common::{Config, config_flags};
use tracing::info;

use super::args::{Args, SocketLb};
use super::cidr::ServiceRanges;
use super::masquerade::Ranges;
use crate::bpf::map::{Array, MapError};
use crate::bpf::pin::PinDir;
use crate::bpf::probe::{self, ProbeError};
use crate::net::node::NodeAddresses;

/// The settings in the kernel.
#[derive(Debug)]
pub(super) struct Settings {
    map: Array<Config>,
    config: Config,
    /// The network namespace that the programs worked for before.
    former_netns: u64,
}

/// What the flags and the kernel say; the node's addresses are still to come.
///
/// # Errors
/// The kernel refused to tell.
pub(super) fn of(args: &Args) -> Result<Config, ProbeError> {
    let mut flags = 0;
    if args.socket_lb == SocketLb::Host {
        flags |= config_flags::SOCKET_LB_HOST;
    }
    if probe::csum_ipv6_flag()? {
        flags |= config_flags::CSUM_IPV6_FLAG;
    }
    let mut config = Config {
        netns_cookie: probe::netns_cookie()?,
        flags,
        reject_rate: args.reject_rate,
        event_rate: args.event_rate,
        new_flow_rate: args.new_flow_rate,
        lifetimes: args.lifetimes(),
        tick: probe::tick(),
        ..Config::DEFAULT
    };
    args.masquerade().settle(&mut config);
    Ok(config)
}

impl Settings {
    /// Puts `config` in force, with the node addresses that hold so far, and with `former_ranges` the ranges of local
    /// clients that do.
    ///
    /// # Errors
    /// The map is not there.
    pub(super) fn write(pins: &PinDir, mut config: Config, former_ranges: bool) -> Result<Self, MapError> {
        let map: Array<Config> = Array::open(pins, CONFIG)?;
        let former = map.get(0)?;
        (config.node4, config.node6) = (former.node4, former.node6);
        // New ones hold once the tables do: in between, all Services would be addresses that no Service has.
        config.service_ranges4 = former.service_ranges4;
        config.service_ranges6 = former.service_ranges6;
        if former_ranges {
            (config.local4, config.local6) = (former.local4, former.local6);
        }
        map.set(0, &config)?;
        Ok(Self { map, config, former_netns: former.netns_cookie })
    }

    /// Whether another network namespace was served before: links are then not to this one's interfaces.
    pub(super) fn moved(&self) -> bool {
        self.former_netns != 0 && self.former_netns != self.config.netns_cookie
    }

    /// Puts the node's addresses in force.
    ///
    /// # Errors
    /// The map is not there.
    pub(super) fn set_node(&mut self, node: NodeAddresses) -> Result<(), MapError> {
        if (self.config.node4, self.config.node6) == (node.v4, node.v6) {
            return Ok(());
        }
        (self.config.node4, self.config.node6) = (node.v4, node.v6);
        info!("node addresses: {}, {}", IpAddr::from(node.v4), IpAddr::from(node.v6));
        self.map.set(0, &self.config)
    }

    /// Puts the ranges that addresses of Services are taken from in force.
    ///
    /// # Errors
    /// The map is not there.
    pub(super) fn set_service_ranges(&mut self, ranges: &ServiceRanges) -> Result<(), MapError> {
        let (v4, v6) = (ranges.prefixes(), ranges.prefixes());
        if (self.config.service_ranges4, self.config.service_ranges6) == (v4, v6) {
            return Ok(());
        }
        (self.config.service_ranges4, self.config.service_ranges6) = (v4, v6);
        info!("addresses of Services: {}", ranges.names().join(", "));
        self.map.set(0, &self.config)
    }

    /// Puts the ranges of local clients in force.
    ///
    /// # Errors
    /// The map is not there.
    pub(super) fn set_local(&mut self, ranges: &Ranges) -> Result<(), MapError> {
        let local = (ranges.prefix(), ranges.prefix());
        if (self.config.local4, self.config.local6) == local {
            return Ok(());
        }
        (self.config.local4, self.config.local6) = local;
        info!("local clients: {ranges}");
        self.map.set(0, &self.config)
    }
}
