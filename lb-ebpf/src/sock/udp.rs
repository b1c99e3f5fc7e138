//! UDP of the host: per socket and Service address one backend, until that stops serving.
//!
//! Two entries per translation, as in the flow table: (socket, Service address) to backend and (socket, backend) to
//! Service address. The first kind forms a chain from the socket's storage, so that the end of the socket ends them; an
//! LRU table holds them, for the sockets that the kernel opens itself end without a call.

use lb_common::{Address, Endpoint, Port, Reason, Slot, SockUdpKey, SockUdpRole, SockUdpValue};

use super::{Call, Sock, SockEnv, conclude};
use crate::cut::outcome;
use crate::env::Tables;
use crate::select::{Choice, Chosen};

/// Backends that are tried before two Service addresses share one: the replies are then those of the one asked last.
const TRIES: u32 = 8;
/// Translations of one socket and family that its end removes; the table evicts the rest in time.
const CHAIN: u32 = 64;

/// Finds the backend that `sock` uses for the Service address `choice.to`.
#[inline(always)]
pub(super) fn direct<A: Address, E: SockEnv<A>, S: Sock>(
    env: &E,
    sock: &S,
    choice: &mut Choice<A>,
) -> Result<(), Reason> {
    let recalled = env.recall(sock, choice)?;
    if recalled == Recalled::Backend {
        return Ok(());
    }
    for tried in 1..=TRIES {
        let chosen = match env.choose(choice) {
            Ok(chosen) => chosen,
            // No endpoint serves: the socket keeps what it has (B98).
            Err(_) if recalled == Recalled::Stopped && tried == 1 => return Ok(()),
            Err(reason) => return Err(reason),
        };
        // Session affinity has one answer only.
        let share = tried == TRIES || chosen == Chosen::Kept;
        if env.settle(sock, share, choice)? == Settled::Done {
            break;
        }
    }
    Ok(())
}

outcome! {
    /// What a socket knows of a Service address.
    Recalled {
        /// Nothing.
        Nothing = 0,
        /// A backend that serves; it is the choice.
        Backend = 1,
        /// A backend that has stopped; it is the choice if there is no other.
        Stopped = 2,
    }
}

/// Looks for the backend that `sock` has used for the Service address `choice.to`.
#[inline(always)]
pub fn recall<A: Address, E: SockEnv<A>, S: Sock>(
    env: &E,
    sock: &S,
    choice: &mut Choice<A>,
) -> Result<Recalled, Reason> {
    let cookie = sock.cookie();
    let Some(known) = env.sock_udp(&SockUdpKey::new(cookie, &choice.to, SockUdpRole::ToBackend)) else {
        return Ok(Recalled::Nothing);
    };
    let SockUdpValue { peer, backend, generation, .. } = *known;
    choice.slot = Slot { addr: peer.addr, port: peer.port, pad: [0; 2], backend, generation };
    let word = env.backend(backend);
    if !word.serving() || word.generation() != generation {
        return Ok(Recalled::Stopped);
    }
    // Another Service address of this socket may have the replies, or nobody, if the table evicted the entry.
    let reverse = SockUdpKey::new(cookie, &peer, SockUdpRole::ToService);
    let own = env.sock_udp(&reverse).is_some_and(|reply| reply.peer == choice.to);
    let value = SockUdpValue { peer: choice.to, ..*known };
    if own || env.insert_sock_udp(&reverse, &value) {
        Ok(Recalled::Backend)
    } else {
        Err(Reason::SockStateFull)
    }
}

outcome! {
    /// What became of a choice.
    Settled {
        /// The socket uses it from now on.
        Done = 0,
        /// The socket uses this backend for another Service address: another one should be chosen.
        Taken = 1,
    }
}

/// Has `sock` use the chosen backend for the Service address `choice.to`; unless it uses that one for another Service
/// address, and need not `share` it.
#[inline(always)]
pub fn settle<A: Address, E: SockEnv<A>, S: Sock>(
    env: &E,
    sock: &S,
    share: bool,
    choice: &mut Choice<A>,
) -> Result<Settled, Reason> {
    let cookie = sock.cookie();
    let key = SockUdpKey::new(cookie, &choice.to, SockUdpRole::ToBackend);
    // One key for all reverse entries: the stack is short.
    let mut reverse = SockUdpKey::new(cookie, &choice.to, SockUdpRole::ToService);
    let known = env.sock_udp(&key);
    if let Some(known) = &known {
        (reverse.addr, reverse.port) = (known.peer.addr, known.peer.port);
        // A later Service address of this socket may have taken the old one over.
        if env.sock_udp(&reverse).is_some_and(|taken| taken.peer == choice.to) {
            env.delete_sock_udp(&reverse);
        }
    }
    (reverse.addr, reverse.port) = (choice.slot.addr, choice.slot.port);
    if !share && env.sock_udp(&reverse).is_some_and(|taken| taken.peer != choice.to) {
        return Ok(Settled::Taken);
    }
    let Slot { backend, generation, .. } = choice.slot;
    let mut value = SockUdpValue { peer: choice.to, next: choice.to, backend, generation };
    match known {
        Some(known) => value.next = known.next,
        None => {
            let mut storage = sock.make_storage().ok_or(Reason::SockStateFull)?;
            value.next = core::mem::replace(A::head(&mut storage), choice.to);
        }
    }
    if !env.insert_sock_udp(&reverse, &value) {
        return Err(Reason::SockStateFull);
    }
    value.peer = choice.endpoint();
    if !env.insert_sock_udp(&key, &value) {
        return Err(Reason::SockStateFull);
    }
    env.opened(choice.memory.service, choice.slot.backend);
    Ok(Settled::Done)
}

/// `recvmsg` of a datagram that came from `endpoint`.
#[inline(always)]
pub fn recvmsg<A: Address, E: SockEnv<A>, S: Sock>(env: &E, sock: &S, endpoint: &mut Endpoint<A>) -> Call {
    if Tables::config(env).is_none_or(|config| sock.netns() != config.netns_cookie) {
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
    let Some(mut storage) = sock.storage() else { return };
    let cookie = sock.cookie();
    let mut at = *A::head(&mut storage);
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
