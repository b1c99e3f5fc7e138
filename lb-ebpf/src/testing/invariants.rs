//! What holds for every packet, whatever is in it and in the tables.

use std::format;
use std::string::String;

use lb_common::{Effect, Reason};

use super::bytes::Bytes;
use super::packet::{Checksum, Packet};
use super::wire;
use crate::verdict::Verdict;

/// Bytes by which a refusal may be longer than what it answers: an IPv6 header and that of ICMPv6.
const LONGER: usize = 48;

/// Checks what became of `before`, which left the datapath as `after` with `verdict` for `reason`.
///
/// # Errors
/// What does not hold, in words.
pub fn check(before: &Bytes, after: &Bytes, verdict: Verdict, reason: Reason) -> Result<(), String> {
    let fault = |text: &str| {
        let [before, after] = [before, after].map(|bytes| match wire::parse(bytes.data()) {
            Ok(packet) => format!("{packet:#?}"),
            Err(fault) => format!("{fault}: {:02x?}", bytes.data()),
        });
        Err(format!("{verdict:?} {reason:?}: {text}\nbefore: {before}\nafter: {after}"))
    };
    let longest = before.data().len() + LONGER;
    match (reason.effect(), verdict) {
        (Effect::Pass, Verdict::Pass) if before.data() == after.data() => {}
        (Effect::Pass, Verdict::Pass) => return fault("what passes is not touched"),
        (Effect::Drop | Effect::Reject | Effect::Answer, Verdict::Drop) => {}
        (Effect::Translate, Verdict::Pass | Verdict::Redirect)
            if before.data().len() == after.data().len() => {}
        (Effect::Translate, Verdict::Pass | Verdict::Redirect) => return fault("the length has changed"),
        (Effect::Reject | Effect::Answer, Verdict::Redirect) if after.data().len() <= longest => {}
        (Effect::Reject | Effect::Answer, Verdict::Redirect) => return fault("too long an answer"),
        _ => return fault("this reason does not have this verdict"),
    }
    let Ok(was) = wire::parse(before.data()) else {
        // Its lengths contradict each other: nobody can say what is right.
        return Ok(());
    };
    if verdict == Verdict::Drop || reason.effect() == Effect::Pass {
        return Ok(());
    }
    // The kernel's helper returns early for a datagram without a checksum; nobody looks at the sum of such a one.
    let summed = !matches!(was.checksum, Checksum::Absent | Checksum::Wrong(0));
    if summed && verdict == Verdict::Pass && !after.device_sum_holds() {
        return fault("the sum that the device took is not kept");
    }
    let Ok(is) = wire::parse(after.data()) else {
        return fault("a packet became rubbish");
    };
    if verdict == Verdict::Redirect && is.macs != was.macs.swapped()
        || verdict == Verdict::Pass && is.macs != was.macs
    {
        return fault("link-layer addresses");
    }
    if is.tags != was.tags {
        return fault("tags");
    }
    // A field that happens to hold the pseudo header's sum is right only where the hardware is to add the rest.
    let right = match was.checksum {
        Checksum::Complete | Checksum::Absent => true,
        Checksum::Partial => before.is_partial(),
        Checksum::Wrong(_) => false,
    };
    match reason.effect() {
        Effect::Translate if reason == Reason::ErrorTranslated => {
            if right && is.checksum != was.checksum {
                return fault("the checksum");
            }
        }
        Effect::Translate => {
            if !right && stripped(&is) != stripped(&expected(&was, &is)) || right && is != expected(&was, &is)
            {
                return fault("more than addresses and ports have changed");
            }
        }
        _ => {
            if (is.src, is.dst) != (was.dst, was.src) {
                return fault("an answer goes from whom was asked to who asked");
            }
            if right && matches!(is.checksum, Checksum::Wrong(_)) {
                return fault("the checksum");
            }
        }
    }
    Ok(())
}

/// `was` with the ends of `is`.
fn expected(was: &Packet, is: &Packet) -> Packet {
    let mut expected = was.clone().macs(is.macs);
    match (is.source(), is.destination()) {
        (Some(src), Some(dst)) => expected.between(src, dst),
        _ => {
            (expected.src, expected.dst) = (is.src, is.dst);
            expected
        }
    }
}

fn stripped(packet: &Packet) -> Packet {
    packet.clone().checksum(Checksum::Complete)
}
