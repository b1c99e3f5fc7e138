//! What the programs must know of interfaces.

use crate::abi::shared;

/// Bits of [`InterfaceValue::flags`].
pub mod interface_flags {
    /// There are pods of this node behind it: one that faces a pod, or a bridge that has such a port.
    pub const PODS: u32 = 1;
    /// It is an uplink or overlay whose ingress undoes masquerading.
    pub const OUTWARD: u32 = 2;
    /// Clients that come by it are local (B80: `BridgeInterface`, `InterfaceNamePrefix`).
    pub const LOCAL: u32 = 4;
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
