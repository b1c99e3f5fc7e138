//! What addresses are to the node: Services', its own, or both.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lb_common::{AddressKind, AddressValue, FrontendKind, address_flags};

use super::op::Op;
use super::shadow::{KnownAddr, Shadow};

/// The node's own addresses.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Own {
    /// Those that interfaces have.
    pub held: BTreeSet<IpAddr>,
    /// Those at which node ports are served (B38); `None`: it is not known yet, and what the tables say holds.
    pub node_ports: Option<BTreeSet<IpAddr>>,
    /// The node's address in each family that it has: what its sockets send from, as far as Services are concerned (B44).
    pub node: Vec<IpAddr>,
}

impl Own {
    /// What `addr` is, of which this is known; `None`: nothing that matters.
    fn value(&self, addr: &IpAddr, known: KnownAddr) -> Option<AddressValue> {
        // Node ports stand there; nobody has it.
        if addr.is_unspecified() {
            return None;
        }
        let serves = match &self.node_ports {
            Some(all) => all.contains(addr),
            None => known.value.is_some_and(|value| value.flags & address_flags::NODE_PORTS != 0),
        };
        let held = if self.held.contains(addr) { address_flags::HELD } else { 0 };
        let flags = held | if serves { address_flags::NODE_PORTS } else { 0 };
        let kind = match known.tally {
            Tally { cluster_ips: 1.., .. } => AddressKind::ClusterIp,
            Tally { others: 1.., .. } => AddressKind::External,
            Tally { .. } if serves => AddressKind::Node,
            Tally { .. } => return None,
        };
        Some(AddressValue { kind: kind as u8, flags, pad: [0; 2] })
    }
}

/// How many frontends an address has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Tally {
    cluster_ips: u32,
    others: u32,
}

impl Tally {
    fn of(&mut self, kind: u8) -> &mut u32 {
        if kind == FrontendKind::ClusterIp as u8 { &mut self.cluster_ips } else { &mut self.others }
    }

    /// One more, of the kind with this number.
    pub(super) fn add(&mut self, kind: u8) {
        *self.of(kind) += 1;
    }

    /// One fewer.
    pub(super) fn remove(&mut self, kind: u8) {
        let count = self.of(kind);
        *count = count.saturating_sub(1);
    }
}

/// Addresses as a plan finds and leaves them.
pub(super) struct Ledger<'a> {
    shadow: &'a Shadow,
    own: &'a Own,
    changed: BTreeMap<IpAddr, KnownAddr>,
}

impl<'a> Ledger<'a> {
    /// As they are.
    pub(super) const fn new(shadow: &'a Shadow, own: &'a Own) -> Self {
        Self { shadow, own, changed: BTreeMap::new() }
    }

    /// How many frontends `addr` has, to be changed.
    pub(super) fn tally(&mut self, addr: IpAddr) -> &mut Tally {
        &mut self.known(addr).tally
    }

    fn known(&mut self, addr: IpAddr) -> &mut KnownAddr {
        let known = || self.shadow.addresses.get(&addr).copied().unwrap_or_default();
        self.changed.entry(addr).or_insert_with(known)
    }

    /// The write, if one is needed, that makes `addr` known as what it is with the frontends that it has by now.
    pub(super) fn settle(&mut self, addr: IpAddr) -> Option<Op> {
        let known = *self.known(addr);
        let value = self.own.value(&addr, known);
        self.known(addr).value = value;
        match value {
            _ if known.value == value => None,
            Some(value) => Some(Op::PutAddress { addr, value }),
            None => Some(Op::DeleteAddress { addr }),
        }
    }
}

impl Shadow {
    /// The writes that make every address known as what it is, and no other: for when the node's own have changed, and
    /// after a reading. In a full table what goes makes room for what comes.
    #[must_use]
    pub fn readdress(&self, own: &Own) -> Vec<Op> {
        let all: BTreeSet<&IpAddr> = self.addresses.keys().chain(own.node_ports.iter().flatten()).collect();
        let mut ledger = Ledger::new(self, own);
        let ops = all.into_iter().filter_map(|addr| ledger.settle(*addr));
        let (mut ops, puts): (Vec<_>, Vec<_>) = ops.partition(|op| matches!(op, Op::DeleteAddress { .. }));
        ops.extend(puts);
        ops
    }
}
