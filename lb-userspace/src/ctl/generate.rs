//! `sluice bench generate`.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use super::out::{Document, Out};
use crate::bench::{Load, Segment, generate};

pub(super) const EXAMPLES: &str = "\
Examples:
  sluice bench generate --interface eth1 --mac 52:54:00:12:34:56 --to 10.96.0.1:80 --kind syn --seconds 5
  sluice bench generate --interface eth1 --mac 52:54:00:12:34:56 --to '[fd00:96::1]:53' --flows 1000000 --zipf 1.1
  sluice bench generate --interface eth1 --mac 52:54:00:12:34:56 --to 10.96.0.1:80 --vips 1000 --rate 100000

The frames are real ones: they meet whoever has that Ethernet address, and answers go to whoever has the source address.
`ip neigh` shows Ethernet addresses.";

/// What frames hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Kind {
    /// UDP datagrams
    Udp,
    /// First segments of TCP connections
    Syn,
    /// TCP segments from the middle
    Ack,
    /// TCP segments that end connections
    Fin,
}

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The interface by which frames leave
    #[arg(long, value_name = "IFNAME")]
    interface: String,
    /// The Ethernet address that they go to: the next hop's
    #[arg(long, value_name = "MAC", value_parser = mac)]
    mac: [u8; 6],
    /// The address and port that they go to
    #[arg(long, value_name = "ADDR:PORT")]
    to: SocketAddr,
    /// To so many addresses, from that one on
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    vips: u32,
    /// The first address that they come from [default: 198.18.0.1 or 2001:2::1]
    #[arg(long, value_name = "ADDR")]
    from: Option<IpAddr>,
    /// Of so many flows: 60000 ports of each address
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16_000_000))]
    flows: u32,
    /// What they hold
    #[arg(long, value_enum, default_value_t = Kind::Udp)]
    kind: Kind,
    /// Flows take part by Zipf's law with this exponent, in place of all alike
    #[arg(long, value_name = "EXPONENT", value_parser = exponent)]
    zipf: Option<f64>,
    /// How many frames [default: what fits into the time]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// How long at most
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// How many frames a second [default: as many as can be]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
}

fn mac(text: &str) -> Result<[u8; 6], String> {
    let bytes: Option<Vec<u8>> = text
        .split(':')
        .map(|byte| {
            Some(byte)
                .filter(|byte| byte.len() == 2 && byte.bytes().all(|digit| digit.is_ascii_hexdigit()))
                .and_then(|byte| u8::from_str_radix(byte, 16).ok())
        })
        .collect();
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| "write it as 52:54:00:12:34:56".to_owned())
}

fn exponent(text: &str) -> Result<f64, String> {
    let exponent = text.parse().ok().filter(|exponent: &f64| (0.0..=10.0).contains(exponent));
    exponent.ok_or_else(|| "a number from 0 to 10 is wanted".to_owned())
}

/// What was sent.
#[derive(Serialize)]
struct Done {
    interface: String,
    frames: u64,
    /// What the interface has counted since, at most as many.
    taken: u64,
    seconds: f64,
    frames_per_second: f64,
    nanoseconds_per_frame: f64,
}

impl Document for Done {
    fn text(&self, writer: &mut dyn Write) -> io::Result<()> {
        let Self { interface, frames, taken, seconds, frames_per_second, nanoseconds_per_frame } = self;
        writeln!(
            writer,
            "{taken} of {frames} frames by {interface} in {seconds:.2} s: {frames_per_second:.0} a second, {nanoseconds_per_frame:.0} ns each"
        )
    }
}

impl Args {
    pub(super) fn run(&self, out: &mut Out<'_>) -> anyhow::Result<()> {
        let sent = generate(&Load {
            interface: self.interface.clone(),
            mac: self.mac,
            to: self.to,
            servers: self.vips,
            from: self.from,
            flows: self.flows,
            segment: match self.kind {
                Kind::Udp => Segment::Datagram,
                Kind::Syn => Segment::Syn,
                Kind::Ack => Segment::Ack,
                Kind::Fin => Segment::Fin,
            },
            zipf: self.zipf,
            count: self.count,
            time: Duration::from_secs(self.seconds),
            rate: self.rate,
        })?;
        Ok(out.document(&Done {
            interface: self.interface.clone(),
            frames: sent.made,
            taken: sent.taken,
            seconds: sent.seconds,
            frames_per_second: sent.taken as f64 / sent.seconds,
            nanoseconds_per_frame: sent.nanoseconds,
        })?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::tests::documented;

    #[test]
    fn the_answer_is_what_its_documentation_says() {
        let done = Done {
            interface: "eth1".to_owned(),
            frames: 25_000_000,
            taken: 25_000_000,
            seconds: 10.01,
            frames_per_second: 2_497_502.5,
            nanoseconds_per_frame: 372.4,
        };
        assert_eq!(serde_json::to_value(done).unwrap(), documented("bench generate"));
    }

    #[test]
    fn ethernet_addresses_are_six_bytes() {
        assert_eq!(mac("52:54:00:12:34:ff"), Ok([0x52, 0x54, 0, 0x12, 0x34, 0xff]));
        for wrong in [
            "",
            "52:54:00:12:34",
            "52:54:00:12:34:56:78",
            "5254:00:12:34:56",
            "52:54:00:12:34:gg",
            "+5:54:00:12:34:56",
        ] {
            assert!(mac(wrong).is_err(), "{wrong}");
        }
    }
}
