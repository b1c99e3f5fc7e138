//! Ranges of addresses.

use std::fmt;
use std::net::IpAddr;

use super::{Family, parse};

/// A range of addresses: its first one and its length in bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Range {
    /// The first address.
    pub addr: IpAddr,
    /// How many bits its addresses share; 0: all addresses of the family.
    pub bits: u8,
}

impl Range {
    /// The range of `bits` bits that holds `addr`; `None` if an address has not that many.
    #[must_use]
    pub fn holding(addr: IpAddr, bits: u8) -> Option<Self> {
        let addr = match addr {
            IpAddr::V4(addr) => {
                let beyond = 32_u32.checked_sub(bits.into())?;
                IpAddr::V4((u32::from(addr) & u32::MAX.checked_shl(beyond).unwrap_or(0)).into())
            }
            IpAddr::V6(addr) => {
                let beyond = 128_u32.checked_sub(bits.into())?;
                IpAddr::V6((u128::from(addr) & u128::MAX.checked_shl(beyond).unwrap_or(0)).into())
            }
        };
        Some(Self { addr, bits })
    }

    /// Reads a range as Services name them: bits beyond its length mean nothing (B17). `None`: it is none.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        parse::range(text)
    }

    /// The range of `addr` alone.
    #[must_use]
    pub const fn only(addr: IpAddr) -> Self {
        Self { addr, bits: if addr.is_ipv4() { 32 } else { 128 } }
    }

    /// Whether `addr` is in it.
    #[must_use]
    pub fn contains(&self, addr: &IpAddr) -> bool {
        Self::holding(*addr, self.bits) == Some(*self)
    }

    /// The family of its addresses.
    #[must_use]
    pub const fn family(&self) -> Family {
        Family::of(&self.addr)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.bits)
    }
}
