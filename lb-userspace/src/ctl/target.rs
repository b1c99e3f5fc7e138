//! Names of things as they are typed.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use lb_common::Proto;

use super::args::Name;
use crate::counts::PortName;

/// A Service: `NAME` in any namespace, or `NAMESPACE/NAME`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ServiceName {
    namespace: Option<String>,
    name: String,
}

impl Name for ServiceName {
    const VALUE: &'static str = "[NAMESPACE/]NAME";
    const HELP: &'static str = "Name of a Service, with or without its namespace";
}

impl FromStr for ServiceName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (namespace, name) = match text.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, text),
        };
        if name.is_empty() || name.contains('/') || namespace == Some("") {
            return Err("a Service is named NAME or NAMESPACE/NAME");
        }
        Ok(Self { namespace: namespace.map(str::to_owned), name: name.to_owned() })
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl ServiceName {
    /// Whether this is the name of the Service that `port` belongs to.
    pub(super) fn is(&self, port: &PortName) -> bool {
        self.names(&port.namespace, &port.name)
    }

    /// Whether this is the name of the Service `name` in `namespace`.
    pub(super) fn names(&self, namespace: &str, name: &str) -> bool {
        self.name == name && self.namespace.as_ref().is_none_or(|wanted| wanted == namespace)
    }
}

/// An endpoint: `IP`, whatever its port, or `IP:PORT`, IPv6 in brackets then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Target {
    address: IpAddr,
    port: Option<u16>,
}

impl Name for Target {
    const VALUE: &'static str = "IP[:PORT]";
    const HELP: &'static str = "Address of an endpoint, with or without its port";
}

impl FromStr for Target {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let address = text.parse().map(|address| Self { address, port: None });
        let both =
            |_| text.parse().map(|both: SocketAddr| Self { address: both.ip(), port: Some(both.port()) });
        address.or_else(both).map_err(|_| "an endpoint is named IP, IP:PORT or [IP]:PORT")
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.address, port).fmt(f),
            None => self.address.fmt(f),
        }
    }
}

impl Target {
    /// Whether this names `endpoint`.
    pub(super) fn is(&self, endpoint: SocketAddr) -> bool {
        self.address == endpoint.ip() && self.port.is_none_or(|port| port == endpoint.port())
    }
}

/// A protocol, by its name in any case.
pub(super) fn proto(text: &str) -> Result<Proto, &'static str> {
    Proto::ALL.into_iter().find(|proto| proto.name().eq_ignore_ascii_case(text)).ok_or("tcp, udp or sctp")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_named_with_and_without_port() {
        let endpoint = |text: &str| text.parse::<SocketAddr>().unwrap();
        for (text, same, other) in [
            ("10.0.0.1", "10.0.0.1:80", "10.0.0.2:80"),
            ("10.0.0.1:80", "10.0.0.1:80", "10.0.0.1:81"),
            ("fd00::1", "[fd00::1]:80", "[fd00::2]:80"),
            ("[fd00::1]:80", "[fd00::1]:80", "[fd00::1]:81"),
        ] {
            let target: Target = text.parse().unwrap();
            assert!(target.is(endpoint(same)) && !target.is(endpoint(other)), "{text}");
        }
        for text in ["", "x", "10.0.0.1:", "10.0.0.1:99999", "fd00::1:x"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }

    #[test]
    fn services_are_named_with_and_without_namespace() {
        for text in ["", "/", "a/", "/a", "a/b/c"] {
            assert!(text.parse::<ServiceName>().is_err(), "{text}");
        }
        assert_eq!("web".parse::<ServiceName>().unwrap().namespace, None);
        assert_eq!("shop/web".parse::<ServiceName>().unwrap().namespace.as_deref(), Some("shop"));
    }

    #[test]
    fn protocols_are_named_in_any_case() {
        assert_eq!(
            [proto("tcp"), proto("UDP"), proto("Sctp"), proto("x")],
            [Ok(Proto::Tcp), Ok(Proto::Udp), Ok(Proto::Sctp), Err("tcp, udp or sctp")]
        );
    }
}
