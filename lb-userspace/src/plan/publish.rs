//! Where a Service port is reached, and by whom.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use lb_common::{FrontendKind, FrontendValue};

use super::address::Ledger;
use super::diff::Planner;
use super::op::{FrontendAddr, Op};
use super::room::{NoRoom, Table};
use super::shadow::Shadow;
use super::snapshot::half;
use crate::model::{Family, Range, ServicePort, ServicePortKey};

/// The frontends of a Service port, with their kinds. A node port has the unspecified address.
pub fn frontends_of(
    key: &ServicePortKey,
    service: &ServicePort,
) -> impl Iterator<Item = (FrontendAddr, FrontendKind)> {
    let (family, proto) = (key.family, key.proto as u8);
    let own = service.frontends.iter().map(|frontend| (frontend.addr, frontend.port, frontend.kind));
    let external = service.external.iter().flat_map(move |external| {
        let at = |kind| move |addr: &IpAddr| (*addr, service.port, kind);
        let external_ips = external.external_ips.iter().map(at(FrontendKind::ExternalIp));
        let load_balancers = external.load_balancer_ips.iter().map(at(FrontendKind::LoadBalancer));
        let node_port = external.node_port.map(|port| (family.any(), port.get(), FrontendKind::NodePort));
        external_ips.chain(load_balancers).chain(node_port)
    });
    own.chain(external)
        .filter(move |(addr, ..)| Family::of(addr) == family)
        .map(move |(addr, port, kind)| (FrontendAddr { addr: SocketAddr::new(addr, port), proto }, kind))
}

/// The writes that remove `frontends`, and before them what their addresses are by them: traffic to an address that goes
/// passes untouched instead of being rejected in between.
pub(super) fn unpublish(
    shadow: &Shadow,
    frontends: impl Iterator<Item = FrontendAddr>,
    ledger: &mut Ledger<'_>,
) -> Vec<Op> {
    let mut gone: BTreeMap<IpAddr, Vec<FrontendAddr>> = BTreeMap::new();
    for frontend in frontends {
        gone.entry(frontend.addr.ip()).or_default().push(frontend);
    }
    let mut ops = Vec::new();
    for (addr, frontends) in gone {
        for value in frontends.iter().filter_map(|frontend| shadow.frontends.get(frontend)) {
            ledger.tally(addr).remove(value.kind);
        }
        ops.extend(ledger.settle(addr));
        ops.extend(frontends.into_iter().map(|frontend| Op::DeleteFrontend { frontend }));
    }
    ops
}

impl Planner<'_> {
    pub(super) fn put_frontends(
        &self,
        id: u32,
        spared: impl Fn(&FrontendAddr) -> bool,
        ops: &mut Vec<Op>,
    ) -> Result<(), NoRoom> {
        let shadow = self.shadow;
        let wanted: BTreeMap<_, _> = frontends_of(self.key, self.desired).collect();
        let new = wanted.keys().filter(|frontend| !shadow.frontends.contains_key(frontend)).count();
        self.fits(Table::Frontends, new, shadow.capacity.frontends, shadow.frontend_count)?;
        let mut ledger = Ledger::new(shadow, self.own);
        for (frontend, kind) in &wanted {
            let value = FrontendValue { service: id, kind: *kind as u8, pad: [0; 3] };
            let known = shadow.frontends.get(frontend);
            if known == Some(&value) {
                continue;
            }
            let tally = ledger.tally(frontend.addr.ip());
            tally.add(value.kind);
            if let Some(known) = known {
                tally.remove(known.kind);
            }
            ops.push(Op::PutFrontend { frontend: *frontend, value });
        }
        let addresses: BTreeSet<_> = wanted.keys().map(|frontend| frontend.addr.ip()).collect();
        let known = |addr: &IpAddr| shadow.addresses.get(addr).is_some_and(|known| known.value.is_some());
        let settled: Vec<_> = addresses.iter().filter_map(|addr| ledger.settle(*addr)).collect();
        let new =
            settled.iter().filter(|op| matches!(op, Op::PutAddress { addr, .. } if !known(addr))).count();
        self.fits(Table::Addresses, new, shadow.capacity.addresses, shadow.address_count)?;
        ops.extend(settled);
        let gone = self
            .current
            .frontends
            .iter()
            .filter(|frontend| !wanted.contains_key(frontend) && !spared(frontend));
        ops.extend(unpublish(shadow, gone.copied(), &mut ledger));
        Ok(())
    }

    /// Who may use the LoadBalancer frontends. If that includes the node itself, so are their own addresses: a socket of a
    /// node that has one of them bound sends from there (B44).
    pub(super) fn ranges(&self) -> BTreeSet<Range> {
        let Some(external) = self.desired.external.as_deref() else {
            return BTreeSet::new();
        };
        let mut ranges: BTreeSet<Range> = external.source_ranges.iter().flatten().copied().collect();
        if self.own.node.iter().any(|addr| ranges.iter().any(|range| range.contains(addr))) {
            ranges.extend(external.load_balancer_ips.iter().map(|addr| Range::only(*addr)));
        }
        ranges.retain(|range| range.family() == self.key.family);
        ranges
    }

    /// Whether `new` entries fit a table of which so many, by family, are in use.
    fn fits(&self, table: Table, new: usize, capacity: [u32; 2], used: [u32; 2]) -> Result<(), NoRoom> {
        let half = half(self.key.family);
        let free = capacity[half].saturating_sub(used[half]);
        if new > free as usize { Err(self.no_room(table, new, free)) } else { Ok(()) }
    }

    /// Adds those of `ranges` that are not there.
    pub(super) fn put_ranges(
        &self,
        id: u32,
        ranges: &BTreeSet<Range>,
        ops: &mut Vec<Op>,
    ) -> Result<(), NoRoom> {
        let shadow = self.shadow;
        let new: Vec<_> = ranges.iter().filter(|range| !shadow.ranges.contains(&(id, **range))).collect();
        self.fits(Table::Ranges, new.len(), shadow.capacity.ranges, shadow.range_count)?;
        ops.extend(new.into_iter().map(|range| Op::PutRange { id, range: *range }));
        Ok(())
    }
}
