//! Ranges of addresses, as flags take them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use lb_common::{Addr4, Addr6, Address, Prefix, SERVICE_RANGES};

/// What is wrong with a range.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CidrError {
    /// No slash.
    #[error("{0:?} is no range: ADDRESS/LENGTH is wanted, such as 10.96.0.0/12")]
    Form(String),
    /// No address before the slash.
    #[error("{0:?} is no IPv4 or IPv6 address")]
    Address(String),
    /// No length behind it, or one that is too short or too long.
    #[error("{cidr}: the length of an IPv{family} range is a number from 1 to {most}")]
    Length {
        /// The range.
        cidr: String,
        /// 4 or 6.
        family: u8,
        /// Bits of an address.
        most: u8,
    },
    /// The address is not the first of the range.
    #[error("{cidr} has bits set beyond its length: the range with this address is {meant}")]
    HostBits {
        /// The range.
        cidr: String,
        /// What it should read.
        meant: Cidr,
    },
    /// More ranges of one family than the programs know.
    #[error(
        "{found} IPv{family} ranges are more than the {SERVICE_RANGES} that there is room for: name larger ones that hold them"
    )]
    TooMany {
        /// How many there are.
        found: usize,
        /// 4 or 6.
        family: u8,
    },
}

/// A range of addresses: its first one and its length in bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cidr {
    addr: IpAddr,
    bits: u8,
}

impl Cidr {
    /// Whether it is of IPv4 addresses.
    #[must_use]
    pub fn is_ipv4(&self) -> bool {
        self.addr.is_ipv4()
    }

    /// The range as the programs know it; `None` if it is of the other family.
    #[must_use]
    pub fn prefix<A: Address>(&self) -> Option<Prefix<A>> {
        let mapped = match self.addr {
            IpAddr::V4(addr) => Addr4::from(addr).to_mapped(),
            IpAddr::V6(addr) => addr.into(),
        };
        Some(Prefix { addr: A::from_mapped(&mapped)?, bits: self.bits, pad: [0; 3] })
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let cidr = text.trim();
        let (addr, bits) = cidr.split_once('/').ok_or_else(|| CidrError::Form(cidr.into()))?;
        let addr: IpAddr = addr.parse().map_err(|_| CidrError::Address(addr.into()))?;
        // An IPv4-mapped range would be an IPv4 one for the programs, of another length.
        if addr.to_canonical() != addr {
            return Err(CidrError::Address(addr.to_string()));
        }
        let (family, most) = if addr.is_ipv4() { (4, 32) } else { (6, 128) };
        let bits = match bits.parse() {
            Ok(bits) if (1..=most).contains(&bits) => bits,
            _ => return Err(CidrError::Length { cidr: cidr.into(), family, most }),
        };
        let first = match addr {
            IpAddr::V4(addr) => IpAddr::V4((u32::from(addr) & (u32::MAX << (32 - bits))).into()),
            IpAddr::V6(addr) => IpAddr::V6((u128::from(addr) & (u128::MAX << (128 - bits))).into()),
        };
        if addr != first {
            return Err(CidrError::HostBits { cidr: cidr.into(), meant: Self { addr: first, bits } });
        }
        Ok(Self { addr, bits })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.bits)
    }
}

/// The ranges that addresses of Services are taken from, of both families.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ServiceRanges(Vec<Cidr>);

impl ServiceRanges {
    /// Those of `texts` that can be used, in that order, and what is wrong with the others.
    #[must_use]
    pub fn usable(texts: &[String]) -> (Self, Vec<CidrError>) {
        let (mut ranges, mut errors) = (Self::default(), Vec::new());
        for text in texts {
            match text.parse().and_then(|cidr| ranges.with(cidr)) {
                Ok(more) => ranges = more,
                Err(error) => errors.push(error),
            }
        }
        (ranges, errors)
    }

    /// These and `cidr`, if there is room for it.
    fn with(&self, cidr: Cidr) -> Result<Self, CidrError> {
        let all: Vec<Cidr> = self.0.iter().copied().chain([cidr]).collect();
        let found = all.iter().filter(|other| other.is_ipv4() == cidr.is_ipv4()).count();
        let family = if cidr.is_ipv4() { 4 } else { 6 };
        if found > SERVICE_RANGES { Err(CidrError::TooMany { found, family }) } else { Ok(Self(all)) }
    }

    /// Those of one family, for the programs.
    #[must_use]
    pub fn prefixes<A: Address>(&self) -> [Prefix<A>; SERVICE_RANGES] {
        let mut prefixes = [Prefix { addr: A::default(), bits: 0, pad: [0; 3] }; SERVICE_RANGES];
        for (place, prefix) in prefixes.iter_mut().zip(self.0.iter().filter_map(Cidr::prefix)) {
            *place = prefix;
        }
        prefixes
    }

    /// As they are written.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }
}

impl FromStr for ServiceRanges {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let cidrs = text.split(',').map(str::parse).collect::<Result<Vec<Cidr>, _>>()?;
        let v4 = cidrs.iter().filter_map(Cidr::prefix::<Addr4>).count();
        let v6 = cidrs.iter().filter_map(Cidr::prefix::<Addr6>).count();
        match [(v4, 4), (v6, 6)].into_iter().find(|(found, _)| *found > SERVICE_RANGES) {
            Some((found, family)) => Err(CidrError::TooMany { found, family }),
            None => Ok(Self(cidrs)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_both_families_are_read() {
        let ranges: ServiceRanges = "10.96.0.0/12, fd00:10:96::/112,192.0.2.1/32".parse().unwrap();
        assert_eq!(ranges.names(), ["10.96.0.0/12", "fd00:10:96::/112", "192.0.2.1/32"]);
        let v4 = ranges.prefixes::<Addr4>();
        assert!(v4[0].contains(&Addr4([10, 111, 255, 255])) && !v4[0].contains(&Addr4([10, 112, 0, 0])));
        assert!(v4[1].contains(&Addr4([192, 0, 2, 1])) && v4[2].is_empty());
        let v6 = ranges.prefixes::<Addr6>();
        assert_eq!(v6[0].bits, 112);
        assert!(v6[1..].iter().all(Prefix::is_empty));
    }

    #[test]
    fn a_range_that_cannot_be_meant_is_refused_by_name() {
        for (text, expected) in [
            ("10.96.0.0", "\"10.96.0.0\" is no range: ADDRESS/LENGTH is wanted, such as 10.96.0.0/12"),
            ("", "\"\" is no range: ADDRESS/LENGTH is wanted, such as 10.96.0.0/12"),
            ("10.96.0/12", "\"10.96.0\" is no IPv4 or IPv6 address"),
            ("::ffff:10.96.0.0/108", "\"::ffff:10.96.0.0\" is no IPv4 or IPv6 address"),
            ("10.0.0.0/33", "10.0.0.0/33: the length of an IPv4 range is a number from 1 to 32"),
            ("0.0.0.0/0", "0.0.0.0/0: the length of an IPv4 range is a number from 1 to 32"),
            ("fd00::/x", "fd00::/x: the length of an IPv6 range is a number from 1 to 128"),
            (
                "10.97.0.1/12",
                "10.97.0.1/12 has bits set beyond its length: the range with this address is 10.96.0.0/12",
            ),
            (
                "10.96.0.0/12,fd00::1/64",
                "fd00::1/64 has bits set beyond its length: the range with this address is fd00::/64",
            ),
        ] {
            assert_eq!(text.parse::<ServiceRanges>().unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn there_is_room_for_eight_ranges_of_each_family() {
        let ranges =
            |count: u8| (0..count).map(|i| format!("10.{i}.0.0/16,fd00:{i}::/32")).collect::<Vec<_>>();
        let all: ServiceRanges = ranges(8).join(",").parse().unwrap();
        assert!(all.prefixes::<Addr6>().iter().all(|prefix| !prefix.is_empty()));
        let error = ranges(9).join(",").parse::<ServiceRanges>().unwrap_err().to_string();
        assert!(error.starts_with("9 IPv4 ranges are more than the 8"), "{error}");
    }
}
