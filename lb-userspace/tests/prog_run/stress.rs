//! The pair protocol through the real programs: two CPUs, many colliding flows, a sweep that never rests.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_common::{
    Addr4, Addr6, Address as _, Config, FlowKind, FlowState, FlowWord, Lifetimes, Point, Proto, Reason, maps,
};
use lb_ebpf::testing::fixtures::Scene;
use lb_ebpf::testing::packet::{Checksum, Packet, flags};
use lb_ebpf::testing::pairs::Faults;
use lb_ebpf::testing::tables::{Service, Tables};
use lb_ebpf::testing::wire;
use lb_ebpf::testing::world::Sizes;
use lb_ebpf::verdict::Verdict;

use crate::kernel::Kernel;

/// A flow that has been idle for a second is over.
const SHORT: Lifetimes = Lifetimes {
    tcp_syn_sent: 1,
    tcp_syn_recv: 1,
    tcp_time_wait: 1,
    tcp_close: 1,
    udp_unreplied: 1,
    udp_replied: 1,
    reuse_closed: 0,
    ..Lifetimes::DEFAULT
};

/// Three Services, all of them with the same three endpoints: every reverse entry is contended.
fn kernel(scene: &Scene, lifetimes: Lifetimes, embryonic: u32) -> Result<Kernel> {
    let endpoints = [1, 2, 3].map(|n| scene.endpoint(n));
    let services = [0, 1, 2].map(|n| Service::new(scene.proto, scene.vip(10 + n, 80)).endpoints(&endpoints));
    // The LRU table never fills: nothing is evicted.
    let sizes = Sizes { main: 16_384, lru: 8192 };
    let mut kernel = Kernel::load(sizes)?;
    kernel.reset(&Config { lifetimes, embryonic, ..scene.config() })?;
    kernel.program(&Tables::of(&services))?;
    Ok(kernel)
}

fn send(kernel: &Kernel, packet: &Packet) -> Result<Option<Packet>> {
    let mut bytes = packet.build();
    let verdict = kernel.run(Point::PodIngress, &mut bytes)?;
    if verdict != Some(Verdict::Pass) {
        return Ok(None);
    }
    wire::parse(&bytes).map(Some).map_err(anyhow::Error::msg)
}

fn faults(kernel: &Kernel) -> Result<Faults> {
    let mut faults = Faults::default();
    let flows = |name| kernel.flows::<Addr4>(name).map(|entries| entries.into_iter().collect());
    faults.look_at(&flows(maps::FLOWS4)?, &flows(maps::FLOWS_LRU4)?);
    let flows = |name| kernel.flows::<Addr6>(name).map(|entries| entries.into_iter().collect());
    faults.look_at(&flows(maps::FLOWS6)?, &flows(maps::FLOWS_LRU6)?);
    Ok(faults)
}

/// How many pairs of the main tables are embryonic, by looking at each.
fn embryonic(kernel: &Kernel) -> Result<u64> {
    let v4 = kernel.flows::<Addr4>(maps::FLOWS4)?.into_iter().map(|(_, value)| (value.kind, value.word));
    let v6 = kernel.flows::<Addr6>(maps::FLOWS6)?.into_iter().map(|(_, value)| (value.kind, value.word));
    let embryo = |(kind, word): &(u8, u64)| {
        *kind == FlowKind::Forward as u8 && !FlowWord(*word).state().has(FlowState::ASSURED)
    };
    Ok(v4.chain(v6).filter(embryo).count() as u64)
}

/// Stays on this CPU, if the machine has it.
fn stay_on(cpu: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    let _ = rustix::thread::sched_setaffinity(None, &set);
}

/// Runs `work` on two CPUs while a third thread sweeps; returns what they returned and how often the sweep ran.
fn beside_a_sweep<R: Send>(
    kernel: &Kernel,
    family: u8,
    work: impl Fn(usize) -> Result<R> + Sync,
) -> Result<(Vec<R>, u64)> {
    let (done, sweeps) = (AtomicBool::new(false), AtomicU64::new(0));
    let results = std::thread::scope(|scope| {
        let sweeper = scope.spawn(|| -> Result<()> {
            while !done.load(Ordering::Relaxed) {
                kernel.sweep(family, 1)?;
                sweeps.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        let workers = [0, 1].map(|cpu| {
            let work = &work;
            scope.spawn(move || {
                stay_on(cpu);
                work(cpu)
            })
        });
        let results = workers.map(std::thread::ScopedJoinHandle::join);
        done.store(true, Ordering::Relaxed);
        sweeper.join().expect("the sweep")?;
        results.into_iter().map(|result| result.expect("a CPU")).collect::<Result<Vec<R>>>()
    })?;
    Ok((results, sweeps.into_inner()))
}

fn scenes() -> impl Iterator<Item = Scene> {
    Scene::ALL.into_iter().filter(|scene| scene.checksum == Checksum::Complete)
}

/// Two CPUs send the first packets of the same flows: both see one pair each, and no two flows share one.
#[test]
fn both_cpus_see_one_pair() -> Result<()> {
    for scene in scenes() {
        let kernel = kernel(&scene, Lifetimes::DEFAULT, u32::MAX)?;
        let flows: Vec<(SocketAddr, SocketAddr)> = (0..3000_u16)
            .map(|n| (scene.pod(7, 50_000 + n / 3), scene.vip(10 + (n % 3) as u8, 80)))
            .collect();
        let family = if scene.v6 { 6 } else { 4 };
        let (seen, sweeps) = beside_a_sweep(&kernel, family, |cpu| {
            let mut seen = HashMap::new();
            for trio in flows.chunks(3) {
                let order = if cpu == 0 { [0, 1, 2] } else { [2, 1, 0] };
                for flow in order.map(|index| trio[index]) {
                    let translated = send(&kernel, &scene.first(flow.0, flow.1))?;
                    seen.insert(flow, translated.map(|packet| (packet.source(), packet.destination())));
                }
            }
            Ok(seen)
        })?;
        let reasons = kernel.counters()?.reasons;
        let mut used = HashMap::new();
        for flow in &flows {
            let tuples: Vec<_> = seen.iter().filter_map(|seen| seen[flow]).collect();
            let first = *tuples.first().with_context(|| format!("{flow:?} dropped twice: {reasons:?}"))?;
            ensure!(tuples.iter().all(|tuple| *tuple == first), "{flow:?} seen as {tuples:?}");
            ensure!(used.insert(first, *flow).is_none(), "{first:?} serves two flows");
        }
        ensure!(sweeps > 0, "the sweep never ran");
        let faults = faults(&kernel)?;
        ensure!(faults.none(), "{scene}: {faults:#?}\n{reasons:?}");
        let opened = reasons[&Reason::FlowOpened];
        ensure!(opened == 3000, "{opened} flows were opened: {reasons:?}");
    }
    Ok(())
}

/// Flows open, are confirmed and moved, close, idle out, are swept and taken over for a while; then the tables hold
/// whole pairs, and as many are embryonic as are counted.
#[test]
fn churn_leaves_whole_pairs() -> Result<()> {
    for scene in scenes() {
        let kernel = kernel(&scene, SHORT, 16)?;
        let family = if scene.v6 { 6 } else { 4 };
        let seconds = if std::env::var_os("SLUICE_TEST_LONG").is_some() { 15 } else { 3 };
        let end = Instant::now() + Duration::from_secs(seconds);
        beside_a_sweep(&kernel, family, |cpu| {
            let mut random = cpu as u64 + 1;
            while Instant::now() < end {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let [a, b, c, d, ..] = random.to_be_bytes();
                let (client, vip) = (scene.pod(7, 50_000 + u16::from(a)), scene.vip(10 + b % 3, 80));
                let kind = match c % 8 {
                    0..=5 => flags::SYN,
                    6 => flags::FIN | flags::ACK,
                    _ => flags::RST,
                };
                let translated = send(&kernel, &scene.packet(client, vip, kind))?;
                if let (Some((src, dst)), 0..=99) =
                    (translated.and_then(|there| there.source().zip(there.destination())), d)
                {
                    kernel.run(Point::PodEgress, &mut scene.packet(dst, src, kind).build())?;
                }
            }
            Ok(())
        })?;
        let found = faults(&kernel)?;
        let reasons = kernel.counters()?.reasons;
        ensure!(found.none(), "{scene}: {found:#?}\n{reasons:?}");
        kernel.sweep(family, 0)?;
        let (counted, seen) = (kernel.holds()?.embryonic, embryonic(&kernel)?);
        ensure!(counted == seen, "{scene}: {counted} embryos are counted, {seen} are there");
        for reason in [Reason::FlowOpened, Reason::FlowForward, Reason::FlowReverse] {
            ensure!(reasons.contains_key(&reason), "{scene}: {reason:?} never happened: {reasons:?}");
        }
        // Datagrams have no end, and what idles the sweep removes before any packet meets it.
        let reopened = reasons.contains_key(&Reason::FlowReopened);
        ensure!(reopened || scene.proto == Proto::Udp, "{scene}: no flow was taken over: {reasons:?}");
    }
    Ok(())
}

/// Two CPUs write over each other's records while somebody reads: no record is a mixture, none comes twice or late, and
/// what is missing was overwritten, or met another CPU in its place.
#[test]
fn records_are_whole_while_two_cpus_write() -> Result<()> {
    let scene = Scene::ALL[0];
    let mut kernel = Kernel::load(Sizes::default())?;
    kernel.reset(&Config { event_rate: u32::MAX, reject_rate: 0, ..scene.config() })?;
    kernel.program(&Tables::of(&[scene.service(0)]))?;
    let bare = u32::try_from(scene.first(scene.client(), scene.web()).build().len() - wire::ETHERNET)?;
    let first = kernel.state()?.events;
    let end = Instant::now() + Duration::from_secs(2);
    let done = AtomicBool::new(false);
    let (seen, sent) = std::thread::scope(|scope| -> Result<_> {
        let writers = [0, 1].map(|cpu| {
            let kernel = &kernel;
            scope.spawn(move || -> Result<u64> {
                stay_on(cpu);
                let mut sent = 0;
                while Instant::now() < end {
                    // Source address, port and length of a packet say the same.
                    let n = (sent % 200) as u8;
                    let port = 50_000 + u16::from(n);
                    let packet = scene.first(scene.pod(n, port), scene.web()).data(vec![n; n.into()]);
                    kernel.run(Point::PodIngress, &mut packet.build())?;
                    sent += 1;
                }
                Ok(sent)
            })
        });
        let reader = scope.spawn(|| -> Result<u64> {
            let (mut next, mut seen) = (first, 0);
            while !done.load(Ordering::Relaxed) {
                let head = kernel.state()?.events;
                next = next.max(head.saturating_sub(u64::from(maps::EVENT_RECORDS)));
                for number in next..head {
                    let Some(event) = kernel.event(number)? else { continue };
                    let [.., n] = Addr4::from_mapped(&event.src).context("IPv4")?.0;
                    let expected = (50_000 + u16::from(n), bare + u32::from(n));
                    ensure!((event.sport.number(), event.length) == expected, "a mixture: {event:?}");
                    seen += 1;
                }
                next = head;
            }
            Ok(seen)
        });
        let sent = writers.map(|writer| writer.join().expect("a writer"));
        done.store(true, Ordering::Relaxed);
        let seen = reader.join().expect("the reader")?;
        Ok((seen, sent.into_iter().sum::<Result<u64>>()?))
    })?;
    let numbered = kernel.state()?.events - first;
    ensure!(numbered == sent, "{sent} packets, {numbered} numbers");
    ensure!(seen > 1000, "only {seen} of {sent} were read");
    Ok(())
}
