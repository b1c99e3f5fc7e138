//! `bind`, where whoever runs the node wants no socket of the host to listen in vain.

use lb_common::{Addr4, Address, Endpoint, FrontendKey, FrontendKind, Proto, Reason, SockCall};

use super::{Call, Sock, SockEnv, finish, placement};
use crate::env::Env;
use crate::select::{self, Asker};

/// `bind` of a socket of `proto` to `endpoint`: refused to a socket of the host if what is sent there goes to a Service.
#[inline(always)]
pub fn bind<A: Address, E: SockEnv<A> + Env<Addr4>, S: Sock>(
    env: &E,
    sock: &S,
    proto: Proto,
    endpoint: &mut Endpoint<A>,
) -> Call {
    let reason = if placement::<A, E, S>(env, sock, proto) != Some(true) {
        Reason::SockLeft
    } else if shadowed(env, proto, endpoint) || shadowed_beside(env, proto, endpoint) {
        Reason::SockBindRefused
    } else {
        Reason::SockNotService
    };
    finish(env, sock, SockCall::Bind, proto, reason, endpoint)
}

/// Whether what is sent to `endpoint`, or to any address of its family, goes to a Service that the host's own process
/// does not stand behind: a ClusterIP that an interface has is left to the host.
#[inline(always)]
fn shadowed<A: Address, E: Env<A>>(env: &E, proto: Proto, endpoint: &Endpoint<A>) -> bool {
    if endpoint.addr == A::default() {
        return env.frontend(&FrontendKey::new(endpoint.addr, endpoint.port, proto as u8)).is_some();
    }
    let found = select::find(env, endpoint, proto as u8, Asker::Host);
    found.is_ok_and(|frontend| frontend.kind != FrontendKind::ClusterIp as u8)
}

/// The same of the other family, which a socket that is bound to `::` has as well, unless it says otherwise: that cannot
/// be seen from here.
#[inline(always)]
fn shadowed_beside<A: Address, E: Env<Addr4>>(env: &E, proto: Proto, endpoint: &Endpoint<A>) -> bool {
    let both = A::FAMILY == 6 && endpoint.addr == A::default();
    both && shadowed(env, proto, &Endpoint::new(Addr4::default(), endpoint.port))
}
