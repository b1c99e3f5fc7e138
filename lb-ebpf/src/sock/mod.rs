//! The socket hooks: a socket is told a backend's address when it connects or sends, and the Service's when it asks.
//!
//! TCP of the host and of pods is translated once, at `connect`. UDP of the host is translated per message, so that an
//! unconnected socket keeps its backend per Service. Pods' UDP is left to the packet path, where choosing again is easy.

mod env;
mod tcp;
mod udp;

use lb_common::{Addr6, Address, Effect, Endpoint, Port, Proto, Reason, Slot, SockCall, config_flags};

use crate::cut::outcome;
use crate::env::Env;
use crate::event;
use crate::select::{self, Pick, Served};

pub use env::{Sock, SockEnv};
pub use tcp::direct_tcp;
pub use udp::{direct_udp, recvmsg, release};

/// What becomes of a socket call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    /// It goes on as it is.
    Leave,
    /// It goes on with the address and port that stand in its endpoint now.
    Translate,
    /// It fails with `ECONNREFUSED`.
    Refuse,
}

outcome! {
    /// A socket call that goes on, to a backend.
    Directed {
        /// It does.
        Backend = 0,
    }
}

/// `connect` of a socket of `proto` to `endpoint`.
#[inline(always)]
pub fn connect<A: Address, E: SockEnv<A>, S: Sock>(
    env: &E,
    sock: &S,
    proto: Proto,
    endpoint: &mut Endpoint<A>,
) -> Call {
    let outcome = match (placement(env, sock, proto), proto) {
        (None, _) | (Some(false), Proto::Udp) => Err(Reason::SockLeft),
        (Some(_), Proto::Tcp) => {
            env.direct_tcp(sock, endpoint).map(|Directed::Backend| Reason::SockConnected)
        }
        (Some(true), Proto::Udp) => udp::connect(env, sock, endpoint),
    };
    let reason = outcome.unwrap_or_else(|reason| reason);
    if reason.effect() == Effect::Pass {
        forget(sock);
    }
    finish(env, sock, SockCall::Connect, proto, reason, endpoint)
}

/// A socket that connects to an address as it is no longer goes by a Service's: it may be that Service's backend.
#[inline(always)]
fn forget<S: Sock>(sock: &S) {
    if let Some(mut storage) = sock.storage() {
        storage.peer.port = Port([0; 2]);
    }
}

/// `sendto` or `sendmsg` of an unconnected UDP socket to `endpoint`.
#[inline(always)]
pub fn sendmsg<A: Address, E: SockEnv<A>, S: Sock>(env: &E, sock: &S, endpoint: &mut Endpoint<A>) -> Call {
    let outcome = match placement(env, sock, Proto::Udp) {
        Some(true) => env.direct_udp(sock, endpoint).map(|Directed::Backend| Reason::SockSent),
        _ => Err(Reason::SockLeft),
    };
    let reason = outcome.unwrap_or_else(|reason| reason);
    finish(env, sock, SockCall::Sendmsg, Proto::Udp, reason, endpoint)
}

/// `getpeername` of a socket that is connected to `endpoint`.
#[inline(always)]
pub fn getpeername<A: Address, E: Env<A>, S: Sock>(env: &E, sock: &S, endpoint: &mut Endpoint<A>) -> Call {
    let Some(storage) = sock.storage() else {
        return conclude(env, Reason::SockNotService);
    };
    if storage.peer.port == Port([0; 2]) || storage.backend != mapped(endpoint) {
        return conclude(env, Reason::SockNotService);
    }
    let Some(addr) = A::from_mapped(&storage.peer.addr) else {
        return conclude(env, Reason::SockNotService);
    };
    *endpoint = Endpoint::new(addr, storage.peer.port);
    conclude(env, Reason::SockReplied)
}

/// Whether the socket is the host's; `None` if it is not translated at all.
#[inline(always)]
fn placement<A: Address, E: Env<A>, S: Sock>(env: &E, sock: &S, proto: Proto) -> Option<bool> {
    let config = env.config()?;
    if sock.netns() == config.netns_cookie {
        Some(true)
    } else if proto == Proto::Udp || config.flags & config_flags::SOCKET_LB_HOST != 0 {
        None
    } else {
        Some(false)
    }
}

/// The Service port behind `to`, in the words of the socket hooks.
#[inline(always)]
fn service<A: Address, E: Env<A>>(
    env: &E,
    to: &Endpoint<A>,
    proto: Proto,
) -> Result<Served<E::Service>, Reason> {
    select::service(env, &to.addr, to.port, proto as u8).map_err(|reason| match (reason, proto) {
        (Reason::NotService, _) => Reason::SockNotService,
        (Reason::PortNotServed, _) => Reason::SockPortNotServed,
        (Reason::NoEndpoints, _) => Reason::SockNoEndpoints,
        (Reason::NoLocalEndpoints, Proto::Tcp) => Reason::SockNoLocalEndpoints,
        (Reason::NoLocalEndpoints, Proto::Udp) => Reason::SockNoLocalRefused,
        _ => Reason::SockInconsistent,
    })
}

/// The next endpoint of `served`.
#[inline(always)]
fn next<A: Address, E: Env<A>>(env: &E, served: &Served<E::Service>) -> Result<Slot<A>, Reason> {
    select::endpoint(env, served, Pick::Next).map_err(|_| Reason::SockInconsistent)
}

#[inline(always)]
fn mapped<A: Address>(endpoint: &Endpoint<A>) -> Endpoint<Addr6> {
    Endpoint::new(endpoint.addr.to_mapped(), endpoint.port)
}

/// Counts a call that may be refused, and records it then.
#[inline(always)]
fn finish<A: Address, E: SockEnv<A>, S: Sock>(
    env: &E,
    sock: &S,
    call: SockCall,
    proto: Proto,
    reason: Reason,
    endpoint: &mut Endpoint<A>,
) -> Call {
    if event::wanted(reason) {
        env.refuse(sock, call, proto, reason, endpoint);
        return Call::Refuse;
    }
    conclude(env, reason)
}

/// Counts the call.
#[inline(always)]
fn conclude<A: Address, E: Env<A>>(env: &E, reason: Reason) -> Call {
    env.count(reason);
    match reason.effect() {
        Effect::Pass => Call::Leave,
        Effect::Translate => Call::Translate,
        Effect::Answer | Effect::Reject | Effect::Drop => Call::Refuse,
    }
}
