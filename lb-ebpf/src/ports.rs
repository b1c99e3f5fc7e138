//! Source ports for masquerading and for resolving collisions.

use lb_common::{Port, PortRange};

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
