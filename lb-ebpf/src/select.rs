//! From an address and port to an endpoint.

use lb_common::{Address, FrontendKey, Port, Reason, Slot, Span, service_flags};

use crate::env::{Env, ServiceRef};

/// How the endpoint is picked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pick {
    /// The next one in turn.
    Next,
    /// By this hash: the same on every node and at every try.
    Hash(u32),
}

/// A Service port that can serve.
#[derive(Clone, Copy)]
pub(crate) struct Served<S> {
    /// Its id.
    pub(crate) id: u32,
    service: S,
    span: Span,
}

/// The Service port behind `port` of `addr`, if it can serve.
#[inline(always)]
pub(crate) fn service<A: Address, E: Env<A>>(
    env: &E,
    addr: &A,
    port: Port,
    proto: u8,
) -> Result<Served<E::Service>, Reason> {
    env.address(addr).ok_or(Reason::NotService)?;
    let frontend = FrontendKey::new(*addr, port, proto);
    let id = env.frontend(&frontend).ok_or(Reason::PortNotServed)?.service;
    let service = env.service(id).ok_or(Reason::InconsistentTables)?;
    let span = if service.flags() & service_flags::INTERNAL_LOCAL != 0 {
        let local = service.local();
        if local.is_empty() && !service.cluster().is_empty() {
            return Err(Reason::NoLocalEndpoints);
        }
        local
    } else {
        service.cluster()
    };
    if span.is_empty() { Err(Reason::NoEndpoints) } else { Ok(Served { id, service, span }) }
}

/// Picks an endpoint of `served`.
#[inline(always)]
pub(crate) fn endpoint<A: Address, E: Env<A>>(
    env: &E,
    served: &Served<E::Service>,
    pick: Pick,
) -> Result<Slot<A>, Reason> {
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
