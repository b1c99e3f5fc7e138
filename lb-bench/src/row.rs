//! The rows of a node.

use clap::ValueEnum;

/// A row that `sluice bench` measures: figures that are taken together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Row {
    /// Nanoseconds of a program run, by path, over an empty program; two minutes
    ProgNs,
    /// Packets a second back to another node by the uplink, in tc and XDP, beside forwarding and what is faster than
    /// anybody; three minutes
    VethMpps,
    /// Requests and answers of one byte over a kept TCP connection, a second, and how long each takes, by the way to the
    /// server, beside a pair that no proxy touches; two minutes
    Rr,
    /// The same with a new TCP connection for each; two minutes
    Crr,
    /// The same in datagrams of a connected UDP socket; two minutes
    Udp,
    /// Bits a second of one TCP stream and of four, by the same ways; two to three minutes
    Stream,
    /// Packets of established connections under a flood of SYNs, beside before it; one minute
    Flood,
    /// Bytes per flow, Service and endpoint, beside the sizes of keys and values; some seconds
    Mem,
}

impl Row {
    /// What it is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ProgNs => "prog-ns",
            Self::VethMpps => "veth-mpps",
            Self::Rr => "rr",
            Self::Crr => "crr",
            Self::Udp => "udp",
            Self::Stream => "stream",
            Self::Flood => "flood",
            Self::Mem => "mem",
        }
    }

    /// Whether it is also measured through rules of somebody else, if there are any.
    #[must_use]
    pub const fn has_beside(self) -> bool {
        matches!(self, Self::VethMpps | Self::Rr | Self::Crr | Self::Udp | Self::Stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_command_line() {
        for row in Row::value_variants() {
            assert_eq!(row.to_possible_value().unwrap().get_name(), row.name());
        }
    }
}
