//! What the programs must know of interfaces.

use crate::abi::shared;

/// Name of the XDP program of uplinks. It stands before [`crate::Point::OutwardIngress`] and is of that point: what it
/// begins and cannot finish the program there does.
pub const UPLINK_XDP: &str = "uplink_xdp";

/// Name of the tc program that delivers packets into pods past the host stack. It stands behind every other at ingress, and
/// is attached with `--redirect-peer` alone.
pub const POD_SHORTCUT: &str = "pod_shortcut";

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
    /// XDP sends frames back out of it by a redirect, as it does by other interfaces: of a veth pair the other end takes
    /// those, while what is sent by `XDP_TX` stays in its ring unless it has a program itself.
    pub const BACK_BY_REDIRECT: u32 = 16;
    /// Packets have no link-layer header there: they begin with the network header.
    pub const BARE: u32 = 32;
    /// It is one end of a pair whose other end is in a pod's network namespace, and nothing on its way out but ours decides:
    /// packets may be handed to the other end.
    pub const PEER: u32 = 64;
}

/// Value of the map `interfaces`, 12 bytes; hash, key = interface index (u32). An interface of which nothing is to be
/// said has no entry.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct InterfaceValue {
    /// [`interface_flags`].
    pub flags: u32,
    /// The hardware address of an uplink: XDP leaves frames alone that are for another. Else unset.
    pub mac: [u8; 6],
    /// Zero.
    pub pad: [u8; 2],
}

shared! {
    InterfaceValue: size 12, align 4, fields [u32, [u8; 6], [u8; 2]];
}
