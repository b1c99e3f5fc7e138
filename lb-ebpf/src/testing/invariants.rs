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
    broken(before, after, verdict, reason).map_or(Ok(()), |text| {
        let [before, after] = [before, after].map(|bytes| match wire::parse(bytes.data()) {
            Ok(packet) => format!("{packet:#?}"),
            Err(fault) => format!("{fault}: {:02x?}", bytes.data()),
        });
        Err(format!("{verdict:?} {reason:?}: {text}\nbefore: {before}\nafter: {after}"))
    })
}

/// What does not hold.
fn broken(before: &Bytes, after: &Bytes, verdict: Verdict, reason: Reason) -> Option<&'static str> {
    use Verdict::{Drop, Pass, Redirect, Route};
    let (old, new) = (before.data(), after.data());
    match (reason.effect(), verdict) {
        (Effect::Pass, Pass) => return (old != new).then_some("what passes is not touched"),
        (Effect::Drop | Effect::Reject | Effect::Answer, Drop) => return None,
        (Effect::Translate, Pass | Redirect) if old.len() == new.len() => {}
        // The link behind has its own tags.
        (Effect::Translate, Route) if matches!(old.len().checked_sub(new.len()), Some(0 | 4 | 8)) => {}
        (Effect::Translate, Pass | Redirect | Route) => return Some("the length has changed"),
        (Effect::Reject | Effect::Answer, Redirect) if new.len() <= old.len() + LONGER => {}
        (Effect::Reject | Effect::Answer, Redirect) => return Some("too long an answer"),
        _ => return Some("this reason does not have this verdict"),
    }
    // Where lengths contradict each other nobody can say what is right.
    let was = wire::parse(old).ok()?;
    let Ok(is) = wire::parse(new) else {
        return Some("a packet became rubbish");
    };
    // The kernel's helper returns early for a datagram without a checksum; nobody looks at the sum of such a one.
    let summed = !matches!(was.checksum, Checksum::Absent | Checksum::Wrong(0));
    if summed && verdict == Pass && !after.device_sum_holds() {
        return Some("the sum that the device took is not kept");
    }
    let (macs, tags) = match verdict {
        Redirect => (was.macs.swapped(), &was.tags),
        // The next hop's.
        Route => (is.macs, &is.tags),
        Pass | Drop => (was.macs, &was.tags),
    };
    if (is.macs, &is.tags) != (macs, tags) {
        return Some("the link-layer header");
    }
    // A field that happens to hold the pseudo header's sum is right only where the hardware is to add the rest.
    let right = match was.checksum {
        Checksum::Complete | Checksum::Absent => true,
        Checksum::Partial => before.is_partial(),
        Checksum::Wrong(_) => false,
    };
    match reason.effect() {
        Effect::Translate if reason == Reason::ErrorTranslated => {
            (right && is.checksum != was.checksum).then_some("the checksum")
        }
        Effect::Translate => {
            let mut expected = with_ends(&was, &is);
            // Who routes a packet counts the hop.
            expected.hop_limit -= u8::from(verdict == Route);
            if !right {
                expected.checksum = is.checksum;
            }
            (is != expected).then_some("more than addresses and ports have changed")
        }
        _ if (is.src, is.dst) != (was.dst, was.src) => {
            Some("an answer goes from whom was asked to who asked")
        }
        // What the hardware still owes to a packet that is quoted counts in the sum of the answer.
        _ => {
            let sent = wire::parse(&after.completed()).map(|packet| packet.checksum);
            (right && matches!(sent, Ok(Checksum::Wrong(_)))).then_some("the checksum")
        }
    }
}

/// `was` with the link-layer header, addresses and ports of `is`.
fn with_ends(was: &Packet, is: &Packet) -> Packet {
    let mut expected = was.clone().macs(is.macs);
    expected.tags.clone_from(&is.tags);
    match (is.source(), is.destination()) {
        (Some(src), Some(dst)) => expected.between(src, dst),
        _ => {
            (expected.src, expected.dst) = (is.src, is.dst);
            expected
        }
    }
}
