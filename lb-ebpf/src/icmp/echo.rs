//! Echo requests to a ClusterIP (B73 refuses them; ours are answered, so that `ping` shows whether the Service is known).

use lb_common::{Reason, Scratch};

use super::CHECKSUM;
use crate::csum;
use crate::env::Env;
use crate::family::Family;
use crate::pkt::{Covered, Pkt};
use crate::rewrite;
use crate::verdict::Verdict;

/// Turns an echo request into its reply, in place: swapped addresses do not change a sum.
#[inline(always)]
pub(super) fn answer<A: Family, P: Pkt, E: Env<A>>(
    pkt: &mut P,
    env: &E,
    scratch: &Scratch<A>,
) -> Result<Verdict, Reason> {
    let at = scratch.transport;
    let [request, code] = pkt.load(at).ok_or(Reason::Malformed)?;
    let difference = csum::word_difference([request, code, 0, 0], [A::ECHO_REPLY, code, 0, 0]);
    // With the code, or the array would be a constant, which is a map.
    let asked = &scratch.key.tuple;
    let done = pkt.adjust_checksum(at + CHECKSUM, difference, Covered::Segment, false, A::FAMILY == 6)
        && pkt.store(at, &[A::ECHO_REPLY, code])
        && A::store_addresses(pkt, scratch.network, asked, &asked.reverse())
        && rewrite::turn_round(pkt, scratch.network);
    if !done {
        return Err(Reason::RewriteFailed);
    }
    env.count(Reason::EchoAnswered);
    Ok(Verdict::Redirect)
}
