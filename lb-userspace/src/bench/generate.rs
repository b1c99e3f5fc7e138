//! The packet generator: frames of many flows, by any interface whose driver sends what XDP redirects.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lb_bench::Progress;
use lb_common::generator::{FlowPick, SAMPLES};

use super::frame::{Flows, Frames, Segment};
use super::node::{Link, netlink};
use crate::bpf::driver::Driver;
use crate::bpf::probe;
use crate::net::driver::{Drivers, xdp_features};

/// How long one call of the kernel is to take: each waits for a grace period besides.
const SLICE: Duration = Duration::from_millis(250);
/// Frames of the first call.
const FIRST: u64 = 1 << 14;

/// What is sent.
#[derive(Clone, PartialEq, Debug)]
pub struct Load {
    /// By which interface.
    pub interface: String,
    /// To whose Ethernet address.
    pub mac: [u8; 6],
    /// To which address and port; the first of `servers` addresses.
    pub to: SocketAddr,
    /// How many addresses in a row are sent to, in turn with the flows.
    pub servers: u32,
    /// From which address, with 60 000 ports each; `None`: from the networks for benchmarks (RFC 2544, RFC 5180).
    pub from: Option<IpAddr>,
    /// Of how many flows.
    pub flows: u32,
    /// What frames hold.
    pub segment: Segment,
    /// The exponent of Zipf's law by which flows take part; `None`: all alike.
    pub zipf: Option<f64>,
    /// How many frames; `None`: as many as fit.
    pub count: Option<u64>,
    /// For how long at most.
    pub time: Duration,
    /// How many a second; `None`: as many as can be.
    pub rate: Option<u64>,
}

/// What was sent.
#[derive(Clone, PartialEq, Debug)]
pub struct Sent {
    /// Frames that were made.
    pub made: u64,
    /// Packets that the interface has counted as sent since, at most as many as were made.
    pub taken: u64,
    /// Seconds that it took, waits between calls of the kernel included.
    pub seconds: f64,
    /// Nanoseconds per frame without those.
    pub nanoseconds: f64,
}

/// Sends it.
///
/// # Errors
/// What the machine or the build lacks; no such interface, or one that takes no frames.
pub fn generate(load: &Load) -> Result<Sent> {
    probe::kernel()?;
    let before = look(&load.interface)?;
    let name = &load.interface;
    let takes = |does: bool| {
        ensure!(
            does,
            "{name} takes no such frames: its driver does not send what XDP redirects; one end of a veth pair does if the \
             other has an XDP program or receive offload (`ethtool -K IFNAME gro on`)"
        );
        Ok(())
    };
    // Kernels before 6.3 do not tell.
    let features = Drivers::open().context("open a netlink socket")?.xdp(before.index);
    takes(features.is_none_or(|features| features & xdp_features::SENDS != 0))?;
    let from = load.from.unwrap_or(match load.to {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::new(198, 18, 0, 1)),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 1)),
    });
    let frames = Frames {
        link: [load.mac, before.mac],
        client: from,
        server: load.to.ip(),
        servers: load.servers,
        port: load.to.port(),
        segment: load.segment,
        reversed: false,
    };
    let mut driver = Driver::load()?;
    let mut flows = Flows::in_turn(0, load.flows);
    if let Some(exponent) = load.zipf {
        driver.sample(zipf(load.flows, exponent))?;
        flows.pick = FlowPick::Sampled;
    }
    let mut generator = frames.generator(flows, before.index)?;
    let progress = Progress::new("generate", load.count.unwrap_or(0));
    let (begun, mut made, mut spent) = (Instant::now(), 0, 0);
    let mut slice = FIRST;
    loop {
        let left = load.count.map_or(u64::MAX, |count| count - made);
        let now = begun.elapsed();
        if left == 0 || now >= load.time {
            break;
        }
        let paced = load.rate.map_or(u64::MAX, |rate| (rate as f64 * SLICE.as_secs_f64()).ceil() as u64);
        let count = u32::try_from(slice.min(left).min(paced)).unwrap_or(u32::MAX).max(1);
        let took = driver.send(&mut generator, count)?;
        made += u64::from(count);
        spent += u64::from(took) * u64::from(count);
        progress.say(&format!("{made} frames"));
        slice = (SLICE.as_nanos() as u64 / u64::from(took.max(1))).clamp(1, u64::from(u32::MAX));
        if let Some(rate) = load.rate {
            let due = Duration::from_secs_f64(made as f64 / rate as f64).min(load.time);
            thread::sleep(due.saturating_sub(begun.elapsed()));
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    // Whoever else sends by it is counted, too.
    let taken = look(name)?.sent.saturating_sub(before.sent).min(made);
    takes(taken > 0)?;
    Ok(Sent { made, taken, seconds, nanoseconds: spent as f64 / made.max(1) as f64 })
}

/// Numbers of flows, the first the most frequent: the weight of number `k`, from 1 on, is `k` to the power of `-exponent`.
fn zipf(flows: u32, exponent: f64) -> impl Iterator<Item = u32> {
    let sums = (1..=flows).scan(0.0, |sum: &mut f64, rank| {
        *sum += f64::from(rank).powf(-exponent);
        Some(*sum)
    });
    let sums: Vec<f64> = sums.collect();
    let all = sums.last().copied().unwrap_or_default();
    // Evenly spaced instead of drawn: the table is what is drawn from.
    (0..SAMPLES).map(move |place| {
        let at = all * (place as f64 + 0.5) / SAMPLES as f64;
        sums.partition_point(|sum| *sum < at) as u32
    })
}

fn look(name: &str) -> Result<Link> {
    netlink(async |handle| Link::look(&handle, name).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zipf_gives_the_first_flows_their_share() {
        let count = |flows, exponent, flow| zipf(flows, exponent).filter(|it| *it == flow).count();
        // 1 + 1/2 + 1/3 of three.
        for (flow, share) in [(0, 6.0 / 11.0), (1, 3.0 / 11.0), (2, 2.0 / 11.0)] {
            let found = count(3, 1.0, flow) as f64 / SAMPLES as f64;
            assert!((found - share).abs() < 0.001, "{flow}: {found}");
        }
        assert_eq!(count(4, 0.0, 3), SAMPLES / 4);
        assert_eq!(count(1, 2.0, 0), SAMPLES);
    }
}
