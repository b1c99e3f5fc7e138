//! What is measured of a proxy: a start, changes of one endpoint, a restart under traffic.

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use procfs::FromRead;
use procfs::net::Snmp;

use super::objects::{self, Size};
use super::probe::Probe;
use super::proxy::{LIMIT, Proxy, Running};
use super::scene::{Scene, TURNS};
use super::steps::Steps;
use crate::lab::helper::wire::{Load, Reach, Reached};
use crate::lab::{Space, now_ns};
use crate::sh;

/// Services that have to answer before a start is over, the last one among them.
const ANSWERING: u32 = 64;

/// How often a Service is asked that does not answer, or not as it will.
const SELDOM: Duration = Duration::from_millis(2);
pub(super) const OFTEN: Duration = Duration::from_micros(500);

/// How long a proxy is given to come to rest.
pub(super) const REST: Duration = Duration::from_secs(60);

/// How long after a restart something may still go wrong with the traffic.
const AFTERMATH: Duration = Duration::from_secs(1);

/// What a start took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    /// Seconds until the last of the Services answered.
    pub(super) answered: f64,
    /// Seconds of CPU until it had nothing left to do.
    pub(super) cpu: f64,
}

/// What changes of one endpoint took, each in milliseconds from the answer of the API server, which may come after what
/// it answers for.
#[derive(Clone, Default, Debug)]
pub(super) struct Changes {
    /// Until a connection had been answered by the new pod.
    pub(super) connected: Vec<f64>,
    /// Until a plain watch had told of it.
    pub(super) watched: Vec<f64>,
}

/// What a restart took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Restart {
    /// Seconds until it said that it is ready, and had put into effect what changed while it was away.
    pub(super) ready: f64,
    /// Requests and datagrams that were not answered, and segments that had to be sent again.
    pub(super) lost: f64,
}

/// Starts `proxy` with nothing in the kernel.
///
/// # Errors
/// With its log, when the Services do not come to answer.
pub(super) fn start(scene: &Scene, proxy: Proxy, size: Size) -> Result<(Start, Running<'_>)> {
    proxy.clean(scene)?;
    let prober = &scene.side(proxy)?.prober;
    let (begun, running, reached) = thread::scope(|scope| {
        let last = scope.spawn(|| reach(prober, size.some(ANSWERING), None, SELDOM));
        let begun = now_ns();
        let running = proxy.start(scene);
        (begun, running, sh::joined(last.join()))
    });
    let running = running?;
    let reached = reached.with_context(|| running.told("does not make Services answer"))?;
    running.usage.settle(REST)?;
    let start = Start { answered: millis(begun, reached.at) / 1000.0, cpu: running.usage.cpu()? };
    Ok((start, running))
}

/// Asks every Service until it answers.
///
/// # Errors
/// The one that does not.
pub(super) fn ask_all(scene: &Scene, running: &Running<'_>, size: Size) -> Result<()> {
    let all = reach(&scene.side(running.proxy)?.prober, size.all(), None, SELDOM);
    all.with_context(|| running.told("left a Service without an answer")).map(|_| ())
}

/// Replaces the pod behind the probe `count` times, each time when the last change has long been in effect.
///
/// # Errors
/// With the log of the proxy, when a change has no effect.
pub(super) fn changes(
    scene: &Scene,
    running: &Running<'_>,
    probe: &mut Probe<'_>,
    count: u32,
    steps: &Steps,
) -> Result<Changes> {
    let (proxy, mut changes) = (running.proxy, Changes::default());
    let (prober, address) = (&scene.side(proxy)?.prober, probe.address());
    // Not in step with anybody's timer.
    let mut random = fastrand::Rng::with_seed(count.into());
    for number in 1..=count {
        thread::sleep(proxy.pause() + Duration::from_millis(random.u64(..20)));
        let next = probe.next();
        let (changed, reached) = thread::scope(|scope| {
            let new = scope.spawn(move || reach(prober, vec![address], Some(next), OFTEN));
            (probe.change(), sh::joined(new.join()))
        });
        let (changed, reached) = (changed?, reached.with_context(|| running.told("misses a change"))?);
        changes.connected.push(millis(changed.answered, reached.at));
        changes.watched.push(millis(changed.answered, changed.watched));
        if number % (count / 4).max(5) == 0 {
            steps.say(&format!("{}: {number} of {count} changes", proxy.name()));
        }
    }
    Ok(changes)
}

/// Replaces the pods behind many Services at once, as rolling updates do: milliseconds from the answer to the last of these
/// changes until each of them is answered by its new pod.
///
/// # Errors
/// With the log of the proxy, when a change has no effect.
pub(super) fn burst(scene: &Scene, running: &Running<'_>, size: Size, turn: usize) -> Result<f64> {
    thread::sleep(running.proxy.pause());
    let (prober, new) = (&scene.side(running.proxy)?.prober, TURNS[turn % TURNS.len()]);
    let (changed, reached) = thread::scope(|scope| {
        let last = scope.spawn(|| reach(prober, size.burst_places(), Some(new), OFTEN));
        let changed = objects::burst(scene.plane(), size, Some(turn)).map(|()| now_ns());
        (changed, sh::joined(last.join()))
    });
    let (changed, reached) = (changed?, reached.with_context(|| running.told("misses a change of many"))?);
    Ok(millis(changed, reached.at))
}

/// Ends `running`, lets an endpoint change, and starts the proxy anew with what it has left in the kernel, all of it
/// under traffic to a Service that does not change.
///
/// # Errors
/// With its log, when it does not come to do what it should.
pub(super) fn restart<'a>(
    scene: &'a Scene,
    running: Running<'_>,
    probe: &mut Probe<'_>,
    steps: &Steps,
) -> Result<(Restart, Running<'a>)> {
    let (proxy, steady) = (running.proxy, probe.size().steady());
    let side = scene.side(proxy)?;
    let (traffic, prober, address) = (&side.traffic, &side.prober, probe.address());
    let again = sent_again(traffic)?;
    traffic.start_load(Load { to: steady, clients: 4, rate: 400 })?;
    let over = AtomicBool::new(false);
    let (restarted, datagrams) = thread::scope(|scope| {
        let datagrams = scope.spawn(|| traffic.ask_until(0, steady, &over));
        let restarted = (|| {
            let _over = sh::Over(&over);
            running.stop()?;
            probe.change()?;
            let now = probe.now();
            let begun = now_ns();
            let running = proxy.start(scene)?;
            let reached = reach(prober, vec![address], Some(now), SELDOM)
                .with_context(|| running.told("misses what changed while it was away"))?;
            running.ready()?;
            let ready = millis(begun, now_ns().max(reached.at)) / 1000.0;
            running.usage.settle(REST)?;
            thread::sleep(AFTERMATH);
            Ok::<_, anyhow::Error>((ready, running))
        })();
        (restarted, sh::joined(datagrams.join()))
    });
    let load = traffic.stop_load()?;
    let (ready, running) = restarted?;
    let unanswered = load.failed.len() + usize::from(datagrams.is_err());
    for told in
        load.failed.iter().map(|(_, told)| told.clone()).chain(datagrams.err().map(|it| it.to_string()))
    {
        steps.say(&format!("{}: lost: {told}", proxy.name()));
    }
    let lost = (unanswered as u64 + (sent_again(traffic)? - again)) as f64;
    Ok((Restart { ready, lost }, running))
}

/// How many TCP segments have been sent again in the namespace of `space`.
///
/// # Errors
/// When its counters cannot be read.
pub(super) fn sent_again(space: &Space) -> Result<u64> {
    let counters = space.within(|| Ok(Snmp::from_file("/proc/thread-self/net/snmp")?));
    Ok(counters.context("read the counters of TCP")?.tcp_retrans_segs)
}

/// Tries new connections from `space` until all of these addresses are answered, by `pod` if that is named.
///
/// # Errors
/// When one is not, in all the time that a proxy is given.
pub(super) fn reach(
    space: &Space,
    to: Vec<SocketAddr>,
    pod: Option<&str>,
    pause: Duration,
) -> Result<Reached> {
    let (pause_us, limit_ms) = (pause.as_micros() as u64, LIMIT.as_millis() as u64);
    Ok(space.reach(Reach { to, pod: pod.map(str::to_owned), pause_us, limit_ms })?)
}

/// Milliseconds between two readings of [`now_ns`], less than nothing if `to` was first.
fn millis(from: u64, to: u64) -> f64 {
    (to as f64 - from as f64) / 1e6
}

#[cfg(test)]
mod tests {
    use super::millis;

    #[test]
    fn what_comes_before_its_answer_took_less_than_nothing() {
        assert_eq!(millis(5_000_000_000, 5_001_500_000), 1.5);
        assert_eq!(millis(5_000_000_000, 4_999_750_000), -0.25);
    }
}
