//! Which addresses are ours to serve.

use lb_common::{Address, AddressKind, Endpoint, FrontendKey, FrontendValue, Reason, Scratch, address_flags};

use super::Asker;
use crate::cut::outcome;
use crate::env::Env;
use crate::parse;

outcome! {
    /// Where a packet leads that begins something with an address that no Service has.
    Range {
        /// Out of the ranges of ClusterIPs; or it begins nothing.
        Outside = 0,
        /// Into one.
        Inside = 1,
    }
}

/// The frontend of `proto` at `to`.
///
/// # Errors
/// The reason why there is none.
#[inline(always)]
pub(crate) fn find<A: Address, E: Env<A>>(
    env: &E,
    to: &Endpoint<A>,
    proto: u8,
    asker: Asker,
) -> Result<FrontendValue, Reason> {
    let value = env.address(&to.addr).ok_or(Reason::NotService)?;
    let mut key = FrontendKey::new(to.addr, to.port, proto);
    if value.kind == AddressKind::ClusterIp as u8 {
        if value.flags & address_flags::HELD != 0 {
            return Err(Reason::HeldByNode);
        }
        return env.frontend(&key).ok_or(Reason::PortNotServed);
    }
    if value.kind != AddressKind::Node as u8
        && let Some(frontend) = env.frontend(&key)
    {
        return Ok(frontend);
    }
    // Whoever else sends to a loopback address means his own, or is up to no good.
    if value.flags & address_flags::NODE_PORTS == 0 || (asker != Asker::Host && to.addr.is_loopback()) {
        return Err(Reason::NotServicePort);
    }
    key.addr = A::default();
    env.frontend(&key).ok_or(Reason::NotServicePort)
}

/// Whether `addr` is a ClusterIP that is ours to serve, and so ours as a whole.
///
/// # Errors
/// The reason why it is not.
#[inline(always)]
pub(crate) fn owned<A: Address, E: Env<A>>(env: &E, addr: &A) -> Result<(), Reason> {
    match env.address(addr) {
        Some(value) if value.kind != AddressKind::ClusterIp as u8 => Err(Reason::NotServicePort),
        Some(value) if value.flags & address_flags::HELD != 0 => Err(Reason::HeldByNode),
        Some(_) => Ok(()),
        None => Err(Reason::NotService),
    }
}

/// Where the packet leads.
#[inline(always)]
pub fn range<A: Address, E: Env<A>>(env: &E, scratch: &Scratch<A>) -> Result<Range, Reason> {
    let allocated = || env.config().is_some_and(|config| config.allocates(&scratch.key.tuple.dst));
    let inside = parse::begins(scratch) && allocated();
    Ok(if inside { Range::Inside } else { Range::Outside })
}

/// Why a packet is not served, if that is `reason` by the tables: where Services have their addresses, nothing may begin
/// with one that no Service has (B73).
#[inline(always)]
pub(crate) fn unserved<A: Address, E: Env<A>>(env: &E, scratch: &mut Scratch<A>, reason: Reason) -> Reason {
    if reason == Reason::NotService && env.range(scratch) == Ok(Range::Inside) {
        Reason::AddressUnallocated
    } else {
        reason
    }
}
