//! Whose source becomes an address of the node: hairpins, everybody with `--masquerade-all` (B78), and clients that are
//! not local, towards backends of other nodes (B80).

use lb_common::{
    Address, Config, Masquerade, Point, Reason, Scratch, config_flags::DETECT_INTERFACE,
    config_flags::MASQUERADE_ALL, interface_flags,
};

use crate::cut::Outcome;
use crate::env::Env;
use crate::route::{Ask, Way};

/// The number of the point where the answers of a flow are met whose packets come by `point`. Points go in pairs, ingress
/// and egress of a class.
#[inline(always)]
pub(crate) const fn answers(masquerade: u8, point: u8) -> u8 {
    match Masquerade::from_number(masquerade) {
        Some(Masquerade::Hairpin) => point,
        Some(Masquerade::Here) => Point::PodIngress as u8,
        Some(Masquerade::Away) => Point::OutwardIngress as u8,
        Some(Masquerade::None) | None => point ^ 1,
    }
}

/// Whether packets of a flow leave by the node's routes.
#[inline(always)]
pub(crate) const fn is_routed(masquerade: u8) -> bool {
    masquerade == Masquerade::Here as u8 || masquerade == Masquerade::Away as u8
}

impl Outcome for Masquerade {
    #[inline(always)]
    fn byte(self) -> u8 {
        self as u8
    }

    #[inline(always)]
    fn of(byte: u8) -> Option<Self> {
        Self::from_number(byte)
    }
}

/// Whether anything but a hairpin may be masqueraded of what comes by `point`.
#[inline(always)]
pub(crate) fn possible<A: Address>(config: &Config, point: u8) -> bool {
    point == Point::OutwardIngress as u8
        || config.flags & (MASQUERADE_ALL | DETECT_INTERFACE) != 0
        || !config.local_range::<A>().is_empty()
}

/// Decides about the flow from `scratch.key` to `scratch.to`, and gives it its source address.
///
/// What came in from outside and goes to another node always is, or the answer would not come back here. Not towards an
/// address of the node itself, whose host stack must see who asks, nor where the answers would come by an interface at
/// which nothing undoes it; and a pod of this node sees who asks from outside, too.
#[inline(always)]
pub fn decide<A: Address, E: Env<A>>(env: &E, scratch: &mut Scratch<A>) -> Result<Masquerade, Reason> {
    let config = env.config().ok_or(Reason::InconsistentTables)?;
    let all = config.flags & MASQUERADE_ALL != 0;
    let outside = scratch.point == Point::OutwardIngress as u8;
    if !all && !outside && detect(env, scratch.interface, &scratch.key.tuple.src) != Detected::Foreign {
        return Ok(Masquerade::None);
    }
    let route = env.route(&scratch.key, &scratch.to.dst, Ask::Source);
    if route.way == Way::None {
        return Ok(Masquerade::None);
    }
    let flags = env.interface(route.interface).flags;
    let here = flags & interface_flags::PODS != 0;
    if if here { outside || !all } else { flags & interface_flags::OUTWARD == 0 } {
        return Ok(Masquerade::None);
    }
    scratch.to.src =
        if route.source == A::default() { config.node().ok_or(Reason::NoNodeAddress)? } else { route.source };
    let masquerade = if here { Masquerade::Here } else { Masquerade::Away };
    scratch.masquerade = masquerade as u8;
    Ok(masquerade)
}

/// What is known of a client's origin (B80).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detected {
    /// Nothing: there is no detector.
    Unknown,
    /// It is a pod.
    Local,
    /// It is none.
    Foreign,
}

/// What the detector says of `client`, which came by `interface`.
#[inline(always)]
pub(crate) fn detect<A: Address, E: Env<A>>(env: &E, interface: u32, client: &A) -> Detected {
    let Some(config) = env.config() else { return Detected::Unknown };
    let range = config.local_range::<A>();
    let by_interface = config.flags & DETECT_INTERFACE != 0;
    if !by_interface && range.is_empty() {
        return Detected::Unknown;
    }
    let local = if by_interface {
        env.interface(interface).flags & interface_flags::LOCAL != 0
    } else {
        range.contains(client)
    };
    if local { Detected::Local } else { Detected::Foreign }
}
