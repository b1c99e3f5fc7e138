//! Which addresses are ours to serve.

use lb_common::{Address, Reason, Scratch, address_flags};

use crate::cut::outcome;
use crate::env::Env;

outcome! {
    /// Where an address that no Service has is.
    Range {
        /// Outside of the ranges of ClusterIPs.
        Outside = 0,
        /// Inside of one.
        Inside = 1,
    }
}

/// Whether `addr` is a Service address that is ours to serve.
///
/// # Errors
/// The reason why it is not.
#[inline(always)]
pub(crate) fn known<A: Address, E: Env<A>>(env: &E, addr: &A) -> Result<(), Reason> {
    match env.address(addr) {
        Some(value) if value.flags & address_flags::HELD != 0 => Err(Reason::HeldByNode),
        Some(_) => Ok(()),
        None => Err(Reason::NotService),
    }
}

/// Where the packet's destination is.
#[inline(always)]
pub fn range<A: Address, E: Env<A>>(env: &E, scratch: &Scratch<A>) -> Result<Range, Reason> {
    let inside = env.config().is_some_and(|config| config.allocates(&scratch.key.tuple.dst));
    Ok(if inside { Range::Inside } else { Range::Outside })
}

/// Why a packet is not served, if that is `reason` by the tables: where Services have their addresses, one that no
/// Service has must not go anywhere (B73).
#[inline(always)]
pub(crate) fn unserved<A: Address, E: Env<A>>(env: &E, scratch: &mut Scratch<A>, reason: Reason) -> Reason {
    if reason == Reason::NotService && env.range(scratch) == Ok(Range::Inside) {
        Reason::AddressUnallocated
    } else {
        reason
    }
}
