//! Records of what was dropped or refused, for people to read: at most so many a second and CPU.

use lb_common::{Addr6, Address, Effect, Endpoint, Port, Proto, Reason, Scratch, SockCall};

use crate::cut::outcome;
use crate::env::Env;
use crate::limit;
use crate::pkt::Pkt;
use crate::sock::Sock;

outcome! {
    /// What became of a record.
    Recorded {
        /// Readers may see it.
        Done = 0,
        /// It was one too many, or another CPU is writing in its place.
        Not = 1,
    }
}

/// Whether what ends with `reason` is recorded.
#[must_use]
#[inline(always)]
pub const fn wanted(reason: Reason) -> bool {
    matches!(reason.effect(), Effect::Drop | Effect::Reject)
}

/// Records that the packet of `scratch`, of `scratch.bytes` bytes at `scratch.point`, was dropped or refused.
#[inline(always)]
pub fn packet<A: Address, P: Pkt, E: Env<A>>(
    pkt: &P,
    env: &E,
    reason: Reason,
    scratch: &Scratch<A>,
) -> Recorded {
    let Some(mut event) = begin(env, reason) else { return Recorded::Not };
    let Scratch { key, bytes, point, flags, backend, .. } = scratch;
    event.cookie = 0;
    event.ifindex = pkt.ifindex();
    event.length = *bytes as u32;
    event.party = if matches!(reason, Reason::SnatPortsExhausted) { *backend } else { 0 };
    event.src = key.tuple.src.to_mapped();
    event.dst = key.tuple.dst.to_mapped();
    event.comm = [0; 16];
    event.sport = key.tuple.sport;
    event.dport = key.tuple.dport;
    event.point = *point;
    event.proto = key.proto;
    event.flags = if key.proto == Proto::Tcp as u8 { *flags } else { 0 };
    env.publish_event(event);
    Recorded::Done
}

/// Counts and records that `call` of `sock`, which asked for `endpoint`, is refused.
#[inline(always)]
pub fn refused<A: Address, E: Env<A>, S: Sock>(
    env: &E,
    sock: &S,
    call: SockCall,
    proto: Proto,
    reason: Reason,
    endpoint: &Endpoint<A>,
) -> Recorded {
    env.count(reason);
    let Some(mut event) = begin(env, reason) else { return Recorded::Not };
    event.cookie = sock.cookie();
    event.ifindex = 0;
    event.length = 0;
    event.party = sock.process();
    event.src = Addr6([0; 16]);
    event.dst = endpoint.addr.to_mapped();
    sock.name_of_thread(&mut event.comm);
    event.sport = Port([0; 2]);
    event.dport = endpoint.port;
    event.point = call as u8;
    event.proto = proto as u8;
    event.flags = 0;
    env.publish_event(event);
    Recorded::Done
}

/// Takes the place of the next record, if this CPU may write one now.
#[inline(always)]
fn begin<A: Address, E: Env<A>>(env: &E, reason: Reason) -> Option<E::Event> {
    let (now, rate) = (env.now(), env.config()?.event_rate);
    let suppressed = env.with_cpu(|cpu| {
        if limit::take(&mut cpu.events, now, rate) {
            Some(core::mem::take(&mut cpu.suppressed))
        } else {
            cpu.suppressed += 1;
            None
        }
    })??;
    let mut event = env.next_event()?;
    event.time = now;
    event.suppressed = u32::try_from(suppressed).unwrap_or(u32::MAX);
    event.reason = reason as u8;
    Some(event)
}
