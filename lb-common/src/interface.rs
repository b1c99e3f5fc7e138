//! What the programs must know of interfaces.

use crate::abi::shared;

/// Name of the XDP program of uplinks. It stands before [`crate::Point::OutwardIngress`] and is of that point: what it
/// begins and cannot finish the program there does.
pub const UPLINK_XDP: &str = "uplink_xdp";

/// Bits of [`InterfaceValue::flags`].
pub mod interface_flags {
    /// There are pods of this node behind it: one that faces a pod, or a bridge that has such a port.
    pub const PODS: u32 = 1;
    /// It is an uplink or overlay whose ingress undoes masquerading.
    pub const OUTWARD: u32 = 2;
    /// Clients that come by it are local (B80: `BridgeInterface`, `InterfaceNamePrefix`).
    pub const LOCAL: u32 = 4;
    /// Frames that XDP programs send may leave by it: its driver takes them (`ndo_xdp_xmit`), and of a veth the far end.
    /// Elsewhere they would vanish.
    pub const FRAMES: u32 = 8;
}

/// Value of the map `interfaces`, 4 bytes; hash, key = interface index (u32). An interface of which nothing is to be
/// said has no entry.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct InterfaceValue {
    /// [`interface_flags`].
    pub flags: u32,
}

shared! {
    InterfaceValue: size 4, align 4, fields [u32];
}
