//! Source ports for masquerading and for resolving collisions.

use lb_common::{Port, PortRange};

/// How far apart the searches of two backends begin. A backend of each of two Services may be one and the same pod: if
/// both began at the same port, one search would walk through the ports that the other has just taken. This is the
/// golden section of the default ranges, which keeps any number of beginnings apart.
const APART: u64 = 20_711;

/// The number of the port that a search for `backend` looks at after `tried` others.
#[inline(always)]
pub(crate) const fn number(backend: u32, tried: u64) -> u64 {
    tried.wrapping_add(backend as u64 * APART)
}

/// Whether `port` is in one of `ranges`.
#[inline(always)]
pub(crate) const fn hold(ranges: &[PortRange; 2], port: Port) -> bool {
    let ([first, second], port) = (ranges, port.number());
    first.first <= port && port <= first.last || second.first <= port && port <= second.last
}

/// Port number `number` of `ranges` laid end to end and repeated for ever; `None` if they are empty.
#[inline(always)]
pub(crate) const fn nth(ranges: &[PortRange; 2], number: u64) -> Option<Port> {
    let [first, second] = ranges;
    let total = first.len() + second.len();
    if total == 0 {
        return None;
    }
    let index = (number % total as u64) as u32;
    let port = if index < first.len() {
        first.first as u32 + index
    } else {
        second.first as u32 + (index - first.len())
    };
    Some(Port::new(port as u16))
}
