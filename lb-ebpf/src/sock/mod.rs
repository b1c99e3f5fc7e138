//! The socket hooks: a socket is told a backend's address when it connects or sends, and the Service's when it asks.
//!
//! TCP of the host and of pods is translated once, at `connect`. UDP of the host is translated per message, so that an
//! unconnected socket keeps its backend per Service. Pods' UDP is left to the packet path, where choosing again is easy.

mod bind;
mod env;
mod udp;

use lb_common::{Addr6, Address, Effect, Endpoint, Port, Proto, Reason, SockCall, config_flags};

use crate::cut::outcome;
use crate::env::Env;
use crate::event;
use crate::select::{self, Asker, Choice, Chosen, Pick};

pub use bind::bind;
pub use env::{Sock, SockEnv};
pub use udp::{Recalled, Settled, recall, recvmsg, release, settle};

/// What becomes of a socket call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    /// It goes on as it is.
    Leave,
    /// It goes on with the address and port that stand in its endpoint now.
    Translate,
    /// It fails: with `EADDRINUSE` where it would bind the socket, else with `ECONNREFUSED`.
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
    let reason = match (placement(env, sock, proto), proto) {
        (None, _) | (Some(false), Proto::Udp) | (_, Proto::Sctp) => Reason::SockLeft,
        // Not a cut: each would be a twentieth of what a call costs.
        (Some(host), Proto::Tcp) => match stream(env, sock, host, endpoint) {
            Ok(_) => Reason::SockConnected,
            Err(reason) => reason,
        },
        (Some(true), Proto::Udp) => match env.direct(sock, true, endpoint) {
            Ok(Directed::Backend) => Reason::SockSent,
            Err(reason) => reason,
        },
    };
    if reason.effect() == Effect::Pass {
        forget(sock);
    }
    finish(env, sock, SockCall::Connect, proto, reason, endpoint)
}

/// Replaces the Service address `endpoint` by a backend, and has `sock`, of TCP, remember both.
#[inline(always)]
fn stream<A: Address, E: SockEnv<A>, S: Sock>(
    env: &E,
    sock: &S,
    host: bool,
    endpoint: &mut Endpoint<A>,
) -> Result<Directed, Reason> {
    let mut choice = Choice::new(*endpoint);
    find_client::<A, E, S>(env, sock, host, &mut choice.memory.client);
    choose(env, Proto::Tcp, host, &mut choice)?;
    remember(sock, &choice)?;
    *endpoint = choice.endpoint();
    env.opened(choice.memory.service, choice.slot.backend);
    Ok(Directed::Backend)
}

/// Replaces the Service address `endpoint` by a backend, and has `sock`, a UDP socket of the host, remember what it must:
/// both, if the call `connects` it, for it then goes by the Service's address.
#[inline(always)]
pub fn direct<A: Address, E: SockEnv<A>, S: Sock>(
    env: &E,
    sock: &S,
    connects: bool,
    endpoint: &mut Endpoint<A>,
) -> Result<Directed, Reason> {
    let mut choice = Choice::new(*endpoint);
    find_client::<A, E, S>(env, sock, true, &mut choice.memory.client);
    udp::direct(env, sock, &mut choice)?;
    if connects {
        remember(sock, &choice)?;
    }
    *endpoint = choice.endpoint();
    Ok(Directed::Backend)
}

/// Has `sock` go by the Service's address.
#[inline(always)]
fn remember<A: Address, S: Sock>(sock: &S, choice: &Choice<A>) -> Result<(), Reason> {
    let mut storage = sock.make_storage().ok_or(Reason::SockStateFull)?;
    storage.peer = mapped(&choice.to);
    storage.backend = mapped(&choice.endpoint());
    Ok(())
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
        Some(true) => env.direct(sock, false, endpoint).map(|Directed::Backend| Reason::SockSent),
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

/// Finds out by whose address session affinity goes, IPv4 as a mapped one: for the host the node's, for a pod the one that
/// its socket is bound to; all zeros if there is none. Each way writes it in place: eBPF's registers and stack do not hold
/// what one of several ways has found.
#[inline(always)]
fn find_client<A: Address, E: Env<A>, S: Sock>(env: &E, sock: &S, host: bool, client: &mut Addr6) {
    if !host {
        sock.bound::<A>(client);
    } else if let Some(config) = env.config() {
        if A::FAMILY == 4 {
            *client = config.node4.to_mapped();
        } else {
            *client = config.node6;
        }
    }
}

/// Chooses a backend of the Service port at `choice.to`. Where it matters who the client is, and that is a pod whose
/// address or interface is not known, the choice is left to the packet path.
#[inline(always)]
pub fn choose<A: Address, E: Env<A>>(
    env: &E,
    proto: Proto,
    host: bool,
    choice: &mut Choice<A>,
) -> Result<Chosen, Reason> {
    let asker = if host { Asker::Host } else { Asker::Pod };
    let served =
        select::service(env, choice, proto as u8, asker).map_err(|reason| match (reason, proto) {
            (Reason::SockLeft, _) => Reason::SockLeft,
            (Reason::NotService | Reason::NotServicePort, _) => Reason::SockNotService,
            (Reason::HeldByNode, _) => Reason::SockHeldByNode,
            (Reason::PortNotServed, _) => Reason::SockPortNotServed,
            (Reason::NoEndpoints, _) => Reason::SockNoEndpoints,
            (Reason::NoLocalEndpoints, Proto::Tcp) => Reason::SockNoLocalEndpoints,
            (Reason::NoLocalEndpoints, Proto::Udp) => Reason::SockNoLocalRefused,
            (Reason::SourceNotInRange, Proto::Tcp) => Reason::SockNotInRange,
            (Reason::SourceNotInRange, Proto::Udp) => Reason::SockNotInRangeRefused,
            _ => Reason::SockInconsistent,
        })?;
    if served.asks_client() && !host && choice.memory.client.is_unspecified() {
        return Err(Reason::SockLeft);
    }
    select::endpoint(env, &served, Pick::Next, choice).map_err(|_| Reason::SockInconsistent)
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
