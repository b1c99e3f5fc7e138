//! `connect()` with and without the socket hook, to where no route leads: nothing is sent, and the socket stays as it was.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, connect, socket};

use super::datapath::PORT;
use super::frame::{nth, scattered};
use super::group::Group;
use super::node::Plan;
use super::space;
use crate::bpf::load::Datapath;
use crate::bpf::space::Space;

/// Who calls, in a cgroup and a network namespace of his own.
#[derive(Debug)]
pub(super) struct Caller {
    group: Group,
    space: Space,
    /// The socket that is used again and again.
    socket: OwnedFd,
}

impl Caller {
    /// One who stays without hooks and one who is to have some, who call addresses of `plan`.
    ///
    /// # Errors
    /// There is no cgroup v2 tree to make cgroups in; the kernel refused.
    pub(super) fn both(plan: &Plan) -> Result<[Self; 2]> {
        let caller = |name: &str| {
            let group = Group::new(name)?;
            let space = space()?;
            let inside = group.enter()?;
            let socket = space.run(|| open(plan))?;
            drop(inside);
            Ok::<_, anyhow::Error>(Self { group, space, socket })
        };
        Ok([caller("plain")?, caller("hooked")?])
    }

    /// Gives him the socket hooks of `datapath`.
    ///
    /// # Errors
    /// The kernel refused.
    pub(super) fn hook(&self, datapath: &Datapath) -> Result<()> {
        Ok(datapath.attach_cgroup(self.group.dir(), false)?)
    }

    /// Nanoseconds of each of so many calls, to one Service of `plan` after the other; each with a new socket if `anew`.
    ///
    /// # Errors
    /// The kernel refused something else than a route.
    pub(super) fn time(&self, calls: u32, plan: &Plan, services: u32, anew: bool) -> Result<f64> {
        let _inside = self.group.enter()?;
        let spent = self.space.run(|| {
            let begun = Instant::now();
            for number in 0..calls {
                let to = nth(plan.services, scattered(number, services));
                if anew { call(&open(plan)?, to)? } else { call(&self.socket, to)? }
            }
            Ok::<_, anyhow::Error>(begun.elapsed())
        })?;
        Ok(spent.as_nanos() as f64 / f64::from(calls))
    }
}

fn open(plan: &Plan) -> Result<OwnedFd> {
    let family = if plan.node.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    socket(family, SocketType::STREAM, None).context("socket")
}

fn call(socket: &OwnedFd, to: IpAddr) -> Result<()> {
    let result = connect(socket, &SocketAddr::new(to, PORT));
    // The latter of IPv6, which looks for a source address first.
    let unreached = matches!(result, Err(Errno::NETUNREACH | Errno::ADDRNOTAVAIL));
    ensure!(unreached, "connect() to where no route leads: {result:?}");
    Ok(())
}
