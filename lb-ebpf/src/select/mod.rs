//! From an address and port to an endpoint.

mod affinity;
mod known;

use lb_common::{
    Addr6, Address, AffinityKey, Endpoint, FrontendKey, Reason, Slot, Span, backend_flags, service_flags,
};

use crate::cut::outcome;
use crate::env::{Env, ServiceRef};

pub use affinity::stick;
pub use known::{Range, range};
pub(crate) use known::{known, unserved};

/// How the endpoint is picked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pick {
    /// The next one in turn.
    Next,
    /// By this hash: the same on every node and at every try.
    Hash(u32),
}

impl Pick {
    /// As a number, to cross a cut.
    #[must_use]
    #[inline(always)]
    pub const fn number(self) -> u64 {
        match self {
            Self::Next => u64::MAX,
            Self::Hash(hash) => hash as u64,
        }
    }

    /// The one with this number.
    #[must_use]
    #[inline(always)]
    pub const fn of(number: u64) -> Self {
        if number == u64::MAX { Self::Next } else { Self::Hash(number as u32) }
    }
}

outcome! {
    /// How an endpoint was chosen.
    Chosen {
        /// It was the turn of this one, and another would have done as well.
        Drawn = 0,
        /// It is the client's: the Service has session affinity.
        Kept = 1,
    }
}

/// A choice under way. It stands in the memory of whoever asks, so that both sides of a cut have it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Choice<A> {
    /// The Service address and port.
    pub to: Endpoint<A>,
    /// What session affinity goes by: the client, all zeros if it is not known, and the Service port, once that has been
    /// found.
    pub memory: AffinityKey,
    /// The endpoint, once it has been chosen.
    pub slot: Slot<A>,
}

impl<A: Address> Choice<A> {
    /// Of an endpoint of the Service port at `to`, for a client that is not known.
    #[inline(always)]
    pub fn new(to: Endpoint<A>) -> Self {
        let memory = AffinityKey { client: Addr6([0; 16]), service: 0 };
        // No default: what is all zeros becomes a call of `memset`.
        Self {
            to,
            memory,
            slot: Slot { addr: to.addr, port: to.port, pad: [0; 2], backend: 0, generation: 0 },
        }
    }

    /// The endpoint.
    #[inline(always)]
    pub const fn endpoint(&self) -> Endpoint<A> {
        Endpoint::new(self.slot.addr, self.slot.port)
    }
}

/// A Service port that can serve.
#[derive(Clone, Copy)]
pub(crate) struct Served<S> {
    service: S,
    span: Span,
    /// [`backend_flags`] of the endpoints in the span.
    member: u32,
    /// Seconds that session affinity lasts; 0: there is none.
    affinity: u32,
}

impl<S> Served<S> {
    /// Whether it matters who the client is.
    #[inline(always)]
    pub(crate) const fn asks_client(&self) -> bool {
        self.affinity != 0
    }
}

/// The Service port at `choice.to`, if it can serve.
#[inline(always)]
pub(crate) fn service<A: Address, E: Env<A>>(
    env: &E,
    choice: &mut Choice<A>,
    proto: u8,
) -> Result<Served<E::Service>, Reason> {
    known(env, &choice.to.addr)?;
    let frontend = FrontendKey::new(choice.to.addr, choice.to.port, proto);
    choice.memory.service = env.frontend(&frontend).ok_or(Reason::PortNotServed)?.service;
    serving(env, choice.memory.service)
}

/// The Service port with this id, if it can serve.
#[inline(always)]
fn serving<A: Address, E: Env<A>>(env: &E, id: u32) -> Result<Served<E::Service>, Reason> {
    let service = env.service(id).ok_or(Reason::InconsistentTables)?;
    let flags = service.flags();
    let affinity = service_flags::affinity(flags);
    let (span, member) = if flags & service_flags::INTERNAL_LOCAL != 0 {
        let local = service.local();
        if local.is_empty() && !service.cluster().is_empty() {
            return Err(Reason::NoLocalEndpoints);
        }
        (local, backend_flags::LOCAL)
    } else {
        (service.cluster(), backend_flags::CLUSTER)
    };
    if span.is_empty() { Err(Reason::NoEndpoints) } else { Ok(Served { service, span, member, affinity }) }
}

/// Chooses an endpoint of `served`, which [`service`] has found for `choice`.
#[inline(always)]
pub(crate) fn endpoint<A: Address, E: Env<A>>(
    env: &E,
    served: &Served<E::Service>,
    pick: Pick,
    choice: &mut Choice<A>,
) -> Result<Chosen, Reason> {
    if served.affinity == 0 {
        choice.slot = draw(env, served, pick)?;
        return Ok(Chosen::Drawn);
    }
    env.stick(pick, choice)
}

/// Picks an endpoint of `served`.
#[inline(always)]
fn draw<A: Address, E: Env<A>>(env: &E, served: &Served<E::Service>, pick: Pick) -> Result<Slot<A>, Reason> {
    let len = served.span.len();
    if len == 0 {
        return Err(Reason::NoEndpoints);
    }
    let index = match pick {
        Pick::Next => (served.service.advance() % u64::from(len)) as u32,
        Pick::Hash(hash) => hash % len,
    };
    env.slot(served.span.offset().wrapping_add(index)).ok_or(Reason::InconsistentTables)
}
