//! Who is served, and by which endpoints: source ranges and traffic policies.

use lb_common::{Addr6, Address, FrontendKind, FrontendValue, Reason, backend_flags, service_flags};

use super::Asker;
use crate::env::Env;
use crate::masquerade::{self, Detected};

/// Refuses a client that is in none of the source ranges. They guard LoadBalancer addresses and nothing else (B43), and
/// hold before anything is selected, whether or not there are endpoints (B45).
#[inline(always)]
pub(crate) fn admit<A: Address, E: Env<A>>(
    env: &E,
    frontend: &FrontendValue,
    flags: u64,
    client: &Addr6,
    asker: Asker,
) -> Result<(), Reason> {
    if frontend.kind != FrontendKind::LoadBalancer as u8 || flags & service_flags::SOURCE_RANGES == 0 {
        Ok(())
    } else if asker == Asker::Pod && client.is_unspecified() {
        Err(Reason::SockLeft)
    } else if env.admits(frontend.service, &A::unmapped(client)) {
        Ok(())
    } else {
        Err(Reason::SourceNotInRange)
    }
}

/// The scope that applies. `internalTrafficPolicy` is for ClusterIPs (B53), `externalTrafficPolicy` for all others (B54,
/// B57): that spares the host and who is known to be a pod (B55), wherever they come from.
#[inline(always)]
pub(crate) fn applies<A: Address, E: Env<A>>(
    env: &E,
    frontend: &FrontendValue,
    flags: u64,
    client: &Addr6,
    asker: Asker,
) -> Result<u32, Reason> {
    let local = if frontend.kind == FrontendKind::ClusterIp as u8 {
        flags & service_flags::INTERNAL_LOCAL != 0
    } else if flags & service_flags::EXTERNAL_LOCAL == 0 {
        false
    } else {
        match asker {
            Asker::Host => false,
            Asker::Pod => return Err(Reason::SockLeft),
            Asker::Packet(interface) => {
                masquerade::detect(env, interface, &A::unmapped(client)) != Detected::Local
            }
        }
    };
    Ok(if local { backend_flags::LOCAL } else { backend_flags::CLUSTER })
}
