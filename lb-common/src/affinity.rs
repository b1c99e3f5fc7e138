//! Which backend a client had last: session affinity by client address (B62 to B66).

use crate::abi::shared;
use crate::addr::Addr6;

/// Key of the map `affinity`, 20 bytes: one memory per client and Service port, shared by all its frontends and by the
/// packet and the socket path (B62).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct AffinityKey {
    /// The client's address; IPv4 as an IPv4-mapped address.
    pub client: Addr6,
    /// Id of the Service port.
    pub service: u32,
}

/// Value of the map `affinity`, 16 bytes.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AffinityValue {
    /// Bits 63..32: generation of the backend; 31..0: its id. Changed by compare-and-exchange only.
    pub word: u64,
    /// When the client last opened a connection (B64): `CLOCK_MONOTONIC_COARSE`, nanoseconds.
    pub seen: u64,
}

shared! {
    AffinityKey: size 20, align 4, fields [Addr6, u32];
    AffinityValue: size 16, align 8, fields [u64, u64];
}
