//! UDP of the host: per socket and Service address one backend, until that stops serving.
//!
//! Two entries per translation, as in the flow table: (socket, Service address) to backend and (socket, backend) to
//! Service address. The first kind forms a chain from the socket's storage, so that the end of the socket ends them; an
//! LRU table holds them, for the sockets that the kernel opens itself end without a call.

use lb_common::{Address, Endpoint, Port, Proto, Reason, SockUdpKey, SockUdpRole, SockUdpValue};

use super::{Call, Directed, Sock, SockEnv, conclude, mapped, next, service};
use crate::env::Env;

/// Backends that are tried before two Service addresses share one: the replies are then those of the one asked last.
const TRIES: u32 = 8;
/// Translations of one socket and family that its end removes; the table evicts the rest in time.
const CHAIN: u32 = 64;

/// `connect`: as a message, and `getpeername` then shows the Service.
#[inline(always)]
pub(super) fn connect<A: Address, E: SockEnv<A>, S: Sock>(
    env: &E,
    sock: &S,
    endpoint: &mut Endpoint<A>,
) -> Result<Reason, Reason> {
    let peer = mapped(endpoint);
    env.direct_udp(sock, endpoint)?;
    let mut storage = sock.make_storage().ok_or(Reason::SockStateFull)?;
    storage.peer = peer;
    storage.backend = mapped(endpoint);
    Ok(Reason::SockSent)
}

/// Replaces the Service address `endpoint` by the backend that `sock` uses for it.
#[inline(always)]
pub fn direct_udp<A: Address, E: SockEnv<A>, S: Sock>(
    env: &E,
    sock: &S,
    endpoint: &mut Endpoint<A>,
) -> Result<Directed, Reason> {
    let to = *endpoint;
    let cookie = sock.cookie();
    let key = SockUdpKey::new(cookie, &to, SockUdpRole::ToBackend);
    // One key for all reverse entries: the stack is short.
    let mut reverse = SockUdpKey::new(cookie, &to, SockUdpRole::ToService);
    let known = env.sock_udp(&key);
    if let Some(known) = &known {
        *endpoint = known.peer;
        (reverse.addr, reverse.port) = (endpoint.addr, endpoint.port);
        let word = env.backend(known.backend);
        if word.serving() && word.generation() == known.generation {
            // Another Service address of this socket may have the replies, or nobody, if the table evicted the entry.
            let own = env.sock_udp(&reverse).is_some_and(|reply| reply.peer == to);
            let value = SockUdpValue { peer: to, ..**known };
            return if own || env.insert_sock_udp(&reverse, &value) {
                Ok(Directed::Backend)
            } else {
                Err(Reason::SockStateFull)
            };
        }
    }
    let served = match service(env, &to, Proto::Udp) {
        Ok(served) => served,
        // No endpoint serves: the socket keeps what it has (B98).
        Err(_) if known.is_some() => return Ok(Directed::Backend),
        Err(reason) => return Err(reason),
    };
    let mut slot = next(env, &served)?;
    // A later Service address of this socket may have taken the old one over.
    if known.is_some() && env.sock_udp(&reverse).is_some_and(|taken| taken.peer == to) {
        env.delete_sock_udp(&reverse);
    }
    for _ in 1..TRIES {
        (reverse.addr, reverse.port) = (slot.addr, slot.port);
        match env.sock_udp(&reverse) {
            Some(taken) if taken.peer != to => slot = next(env, &served)?,
            _ => break,
        }
    }
    let mut value = SockUdpValue { peer: to, next: to, backend: slot.backend, generation: slot.generation };
    match known {
        Some(known) => value.next = known.next,
        None => {
            let mut storage = sock.make_storage().ok_or(Reason::SockStateFull)?;
            value.next = storage.head();
            storage.set_head(&to);
        }
    }
    *endpoint = Endpoint::new(slot.addr, slot.port);
    (reverse.addr, reverse.port) = (slot.addr, slot.port);
    if !env.insert_sock_udp(&reverse, &value) {
        return Err(Reason::SockStateFull);
    }
    value.peer = *endpoint;
    if !env.insert_sock_udp(&key, &value) {
        return Err(Reason::SockStateFull);
    }
    env.opened(served.id, slot.backend);
    Ok(Directed::Backend)
}

/// `recvmsg` of a datagram that came from `endpoint`.
#[inline(always)]
pub fn recvmsg<A: Address, E: SockEnv<A>, S: Sock>(env: &E, sock: &S, endpoint: &mut Endpoint<A>) -> Call {
    if Env::config(env).is_none_or(|config| sock.netns() != config.netns_cookie) {
        return conclude(env, Reason::SockLeft);
    }
    let Some(known) = env.sock_udp(&SockUdpKey::new(sock.cookie(), endpoint, SockUdpRole::ToService)) else {
        return conclude(env, Reason::SockNotService);
    };
    *endpoint = known.peer;
    conclude(env, Reason::SockReplied)
}

/// The end of a socket: removes its translations of family `A`.
#[inline(always)]
pub fn release<A: Address, E: SockEnv<A>, S: Sock>(env: &E, sock: &S) {
    let Some(storage) = sock.storage() else { return };
    let cookie = sock.cookie();
    let mut at: Endpoint<A> = storage.head();
    for _ in 0..CHAIN {
        if at.port == Port([0; 2]) {
            return;
        }
        let key = SockUdpKey::new(cookie, &at, SockUdpRole::ToBackend);
        let Some(value) = env.sock_udp(&key) else { return };
        at = value.next;
        env.delete_sock_udp(&SockUdpKey::new(cookie, &value.peer, SockUdpRole::ToService));
        env.delete_sock_udp(&key);
    }
}
