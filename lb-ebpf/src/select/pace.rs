//! How many flows may begin a second.

use lb_common::{Address, Reason, Scratch, service_flags};

use crate::cut::outcome;
use crate::env::{Env, ServiceRef};
use crate::limit;
use crate::parse::Flags;

outcome! {
    /// A flow that may begin.
    Begun {
        /// It may.
        Yes = 0,
    }
}

/// Lets one more flow of the Service port `scratch.service` begin, on the packet path. A reset ends what it belongs to.
///
/// # Errors
/// It is one too many for the Service port, or for this CPU.
#[inline(always)]
pub fn begin<A: Address, E: Env<A>>(env: &E, scratch: &Scratch<A>) -> Result<Begun, Reason> {
    if Flags(scratch.flags).resets() {
        return Ok(Begun::Yes);
    }
    let service = env.service(scratch.service).ok_or(Reason::InconsistentTables)?;
    let rate = service_flags::new_flow_rate(service.flags());
    // First: what one Service may not have takes nothing from others.
    if rate != 0 && !limit::take_of(service, scratch.now, rate) {
        return Err(Reason::ServiceFlowLimit);
    }
    let (now, rate) = (scratch.now, env.config().map_or(0, |config| config.new_flow_rate));
    if rate != 0 && !env.with_cpu(|cpu| limit::take(&mut cpu.flows, now, rate)).unwrap_or(false) {
        return Err(Reason::NewFlowLimit);
    }
    Ok(Begun::Yes)
}
