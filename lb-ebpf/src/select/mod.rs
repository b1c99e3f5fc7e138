//! From an address and port to an endpoint.

mod affinity;
mod known;
mod pace;
mod scope;

use lb_common::{
    Addr6, Address, AffinityKey, Endpoint, FrontendKind, Reason, Slot, Span, backend_flags, service_flags,
};

use crate::cut::outcome;
use crate::env::{Env, ServiceRef};

pub use affinity::stick;
pub use known::{Range, range};
pub(crate) use known::{find, owned, unserved};
pub use pace::{Begun, begin};
pub(crate) use scope::{admit, applies};

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
    /// The scope that applies, once that has been found: [`backend_flags::CLUSTER`] or [`backend_flags::LOCAL`].
    pub scope: u32,
    /// 1 once it was found by an address at which pods keep theirs (B55): `externalTrafficPolicy` is Local.
    pub keeping: u32,
    /// The endpoint, once it has been chosen.
    pub slot: Slot<A>,
}

impl<A: Address> Choice<A> {
    /// Of an endpoint of the Service port at `to`, for a client that is not known.
    #[inline(always)]
    pub fn new(to: Endpoint<A>) -> Self {
        let memory = AffinityKey { client: Addr6([0; 16]), service: 0 };
        Self {
            to,
            memory,
            scope: backend_flags::CLUSTER,
            keeping: 0,
            slot: Slot { addr: to.addr, port: to.port, pad: [0; 2], backend: 0, generation: 0 },
        }
    }

    /// The endpoint.
    #[inline(always)]
    pub const fn endpoint(&self) -> Endpoint<A> {
        Endpoint::new(self.slot.addr, self.slot.port)
    }
}

/// Who asks for a Service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asker {
    /// Whoever sent a packet that came by this interface.
    Packet(u32),
    /// A socket of the host.
    Host,
    /// A socket of a pod, of which neither interface nor, unless it is bound, address is known.
    Pod,
}

impl Asker {
    /// As a number, to cross a cut. Indices of interfaces are positive 32-bit integers.
    #[must_use]
    #[inline(always)]
    pub const fn number(self) -> u32 {
        match self {
            Self::Packet(interface) => interface,
            Self::Host => u32::MAX,
            Self::Pod => u32::MAX - 1,
        }
    }

    /// The one with this number.
    #[must_use]
    #[inline(always)]
    pub const fn of(number: u32) -> Self {
        match number {
            u32::MAX => Self::Host,
            0xffff_fffe => Self::Pod,
            interface => Self::Packet(interface),
        }
    }
}

/// A Service port that can serve.
#[derive(Clone, Copy)]
pub(crate) struct Served<S> {
    service: S,
    span: Span,
    /// Seconds that session affinity lasts; 0: there is none.
    affinity: u32,
    by_node_port: bool,
}

impl<S> Served<S> {
    /// Whether it was reached by its node port, which is a port of the host, too.
    #[inline(always)]
    pub(crate) const fn by_node_port(&self) -> bool {
        self.by_node_port
    }

    /// Whether it matters who the client is.
    #[inline(always)]
    pub(crate) const fn asks_client(&self) -> bool {
        self.affinity != 0
    }
}

/// The Service port at `choice.to`, if it can serve who asks.
#[inline(always)]
pub(crate) fn service<A: Address, E: Env<A>>(
    env: &E,
    choice: &mut Choice<A>,
    proto: u8,
    asker: Asker,
) -> Result<Served<E::Service>, Reason> {
    let reached = env.reach(proto, asker, choice)?;
    let by_node_port = reached == Reached::NodePort;
    Ok(Served { by_node_port, ..serving(env, choice)? })
}

outcome! {
    /// What is at an address, port and protocol.
    Reached {
        /// A Service port for who asks: `choice.memory.service`, in the scope `choice.scope`.
        Service = 0,
        /// The same, by its node port.
        NodePort = 1,
    }
}

/// Finds the Service port at `choice.to`, and the scope that applies.
///
/// # Errors
/// The reason why who asks is not served. [`Reason::SockLeft`] if that cannot be told of a pod's socket.
#[inline(always)]
pub fn reach<A: Address, E: Env<A>>(
    env: &E,
    proto: u8,
    asker: Asker,
    choice: &mut Choice<A>,
) -> Result<Reached, Reason> {
    let frontend = find(env, &choice.to, proto, asker)?;
    choice.memory.service = frontend.service;
    let flags = env.service(frontend.service).ok_or(Reason::InconsistentTables)?.flags();
    let client = &choice.memory.client;
    admit(env, &frontend, flags, client, asker)?;
    choice.scope = applies(env, &frontend, flags, client, asker)?;
    let external = frontend.kind != FrontendKind::ClusterIp as u8;
    choice.keeping = u32::from(external && flags & service_flags::EXTERNAL_LOCAL != 0);
    let by_node_port = frontend.kind == FrontendKind::NodePort as u8;
    Ok(if by_node_port { Reached::NodePort } else { Reached::Service })
}

/// The Service port `choice.memory.service`, if the scope that applies can serve.
#[inline(always)]
fn serving<A: Address, E: Env<A>>(env: &E, choice: &Choice<A>) -> Result<Served<E::Service>, Reason> {
    let service = env.service(choice.memory.service).ok_or(Reason::InconsistentTables)?;
    let affinity = service_flags::affinity(service.flags());
    let mut span = service.cluster();
    if choice.scope == backend_flags::LOCAL {
        let anywhere = span;
        span = service.local();
        if span.is_empty() && !anywhere.is_empty() {
            return Err(Reason::NoLocalEndpoints);
        }
    }
    if span.is_empty() {
        Err(Reason::NoEndpoints)
    } else {
        Ok(Served { service, span, affinity, by_node_port: false })
    }
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
