//! Reading what people write into address and protocol fields.

use std::net::{IpAddr, Ipv4Addr};

use lb_common::Proto;

use super::range::Range;
use super::{Complaint, Reason};

/// Longest name in characters (an RFC 1123 label); the kernel's table of names has room for no more.
pub(super) const MAX_NAME: usize = 63;

/// Reads an address: blanks around it are ignored, and leading zeros in IPv4 mean nothing, as kube-proxy reads them
/// (B17). An IPv4-mapped address is the IPv4 address.
pub(super) fn ip(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    match text.parse::<IpAddr>() {
        Ok(addr) => Some(addr.to_canonical()),
        Err(_) => ipv4_with_leading_zeros(text).map(IpAddr::V4),
    }
}

fn ipv4_with_leading_zeros(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        // `u8::from_str` takes a sign as well.
        if !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *octet = part.parse().ok()?;
    }
    parts.next().is_none().then(|| octets.into())
}

/// As [`ip`], but only addresses that a Service or an endpoint may have. The API server refuses the others; from a
/// file, a loopback or multicast address would take over traffic that has nothing to do with Services.
pub(super) fn unicast(text: &str) -> Option<IpAddr> {
    ip(text).filter(|addr| match addr {
        IpAddr::V4(addr) => {
            !(addr.is_unspecified()
                || addr.is_loopback()
                || addr.is_multicast()
                || addr.is_link_local()
                || addr.is_broadcast())
        }
        IpAddr::V6(addr) => {
            !(addr.is_unspecified()
                || addr.is_loopback()
                || addr.is_multicast()
                || addr.is_unicast_link_local())
        }
    })
}

/// Reads a range, as kube-proxy reads it: blanks around it are ignored, and so are bits beyond its length (B17).
pub(super) fn range(text: &str) -> Option<Range> {
    let (addr, bits) = text.trim().split_once('/')?;
    // `from_str` takes a sign as well.
    let bits = bits.bytes().all(|byte| byte.is_ascii_digit()).then(|| bits.parse().ok())??;
    // Canonical, an IPv4-mapped address would have another length.
    let mapped = addr.parse::<IpAddr>().is_ok_and(|addr| addr != addr.to_canonical());
    Range::holding(ip(addr).filter(|_| !mapped)?, bits)
}

/// Reads the policy called `field`: whether it is `Local`.
pub(super) fn policy(field: &str, text: &str, problems: &mut Vec<Complaint>) -> bool {
    match text {
        "Local" => true,
        "" | "Cluster" => false,
        other => {
            let text = format!("there is no {field} `{other}`: Cluster is used");
            problems.push(Reason::InvalidValue.because(text));
            false
        }
    }
}

/// Reads a protocol field; empty means TCP, as for the API server.
pub(super) fn proto(text: &str) -> Option<Proto> {
    match text {
        "" | "TCP" => Some(Proto::Tcp),
        "UDP" => Some(Proto::Udp),
        "SCTP" => Some(Proto::Sctp),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{ip, range, unicast};

    #[test]
    fn b17_addresses_are_read_as_kube_proxy_reads_them() {
        for (text, expected) in [
            ("10.0.0.1", Some("10.0.0.1")),
            (" 10.0.0.1\t", Some("10.0.0.1")),
            ("010.000.008.001", Some("10.0.8.1")),
            ("fd00::1 ", Some("fd00::1")),
            ("::ffff:10.0.0.1", Some("10.0.0.1")),
            ("", None),
            ("10.0.0", None),
            ("10.0.0.1.2", None),
            ("10.0.0.256", None),
            ("10.0..1", None),
            ("10.0.0.+1", None),
            ("10.0.0.0x1", None),
            ("fe80::1%eth0", None),
            ("example.com", None),
        ] {
            assert_eq!(ip(text), expected.map(|addr| addr.parse().unwrap()), "{text:?}");
        }
    }

    #[test]
    fn b17_ranges_are_read_as_kube_proxy_reads_them() {
        for (text, expected) in [
            ("192.0.2.0/24", Some("192.0.2.0/24")),
            (" 192.0.2.7/24\t", Some("192.0.2.0/24")),
            ("010.000.0.1/32", Some("10.0.0.1/32")),
            ("10.1.2.3/0", Some("0.0.0.0/0")),
            ("fd00::1/64", Some("fd00::/64")),
            ("fd00::1/128", Some("fd00::1/128")),
            ("::/0", Some("::/0")),
            ("10.0.0.1", None),
            ("10.0.0.1/", None),
            ("10.0.0.1/33", None),
            ("fd00::/129", None),
            ("10.0.0.0/+8", None),
            ("10.0.0/8", None),
            ("::ffff:10.0.0.0/104", None),
        ] {
            assert_eq!(range(text).map(|range| range.to_string()).as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn addresses_that_no_service_can_have_are_refused() {
        for text in [
            "0.0.0.0",
            "127.0.0.1",
            "224.0.0.1",
            "169.254.1.1",
            "255.255.255.255",
            "::",
            "::1",
            "ff02::1",
            "fe80::1",
        ] {
            assert!(ip(text).is_some() && unicast(text).is_none(), "{text}");
        }
    }
}
