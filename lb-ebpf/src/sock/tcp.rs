//! TCP: translated once, at `connect`.

use lb_common::{Address, Endpoint, Proto, Reason};

use super::{Directed, Sock, SockEnv, mapped, next, service};

/// Replaces the Service address `endpoint` by a backend, and has `sock` remember both.
#[inline(always)]
pub fn direct_tcp<A: Address, E: SockEnv<A>, S: Sock>(
    env: &E,
    sock: &S,
    endpoint: &mut Endpoint<A>,
) -> Result<Directed, Reason> {
    let served = service(env, endpoint, Proto::Tcp)?;
    let slot = next(env, &served)?;
    let mut storage = sock.make_storage().ok_or(Reason::SockStateFull)?;
    storage.peer = mapped(endpoint);
    *endpoint = Endpoint::new(slot.addr, slot.port);
    storage.backend = mapped(endpoint);
    env.opened(served.id, slot.backend);
    Ok(Directed::Backend)
}
