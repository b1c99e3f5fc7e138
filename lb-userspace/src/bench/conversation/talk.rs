//! The two ends of conversations: who asks, and who answers, a byte each.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use lb_bench::percentile;
use rustix::net::{Shutdown, shutdown};

use crate::bench::Extent;
use crate::bench::frame::{nth, scattered};
use crate::bpf::space::Space;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long conversations are had at once.
const LIMIT: Duration = Duration::from_secs(1);
/// One in so many more is had before they are timed.
const WARM: u32 = 20;

/// What a conversation is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::bench) enum Talk {
    /// A request and an answer over a TCP connection that is kept.
    Kept,
    /// The same over one that is made for them, and closed by who asked.
    Anew,
}

impl Talk {
    /// How many are had each way in a round.
    pub(super) fn count(self, extent: &Extent) -> u32 {
        // About a seventh of a second.
        let part = match self {
            Self::Kept => 2,
            Self::Anew => 10,
        };
        (extent.runs / part).max(1)
    }

    /// How many connections that takes.
    pub(super) fn connections(self, extent: &Extent) -> u32 {
        match self {
            Self::Kept => 1,
            Self::Anew => self.count(extent) + self.count(extent).div_ceil(WARM),
        }
    }
}

/// Who is called: so many addresses in a row, at one port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Called {
    pub(super) first: IpAddr,
    pub(super) count: u32,
    pub(super) port: u16,
}

impl Called {
    /// Number `number`, as often as not far from the one before.
    fn number(self, number: u32) -> SocketAddr {
        SocketAddr::new(nth(self.first, scattered(number, self.count)), self.port)
    }
}

/// What was had.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Told {
    /// Conversations a second.
    pub(super) rate: f64,
    /// Microseconds that half of them did not exceed, and 99 of 100.
    pub(super) latency: [f64; 2],
    /// Connections that were made, those that nobody timed among them.
    pub(super) connections: u32,
}

/// Has `count` conversations with who is `called`, from number `from` on, out of the namespace of this thread.
///
/// # Errors
/// A call that fails, or is not answered in time.
pub(super) fn converse(talk: Talk, called: Called, from: u32, count: u32) -> Result<Told> {
    let mut connections = 0;
    let mut dial = || {
        let to = called.number(from.wrapping_add(connections));
        connections += 1;
        let stream = TcpStream::connect(to).with_context(|| format!("connect() to {to}"))?;
        stream.set_read_timeout(Some(PATIENCE)).context("setsockopt")?;
        Ok::<_, anyhow::Error>((stream, to))
    };
    let exchange = |(stream, to): &(TcpStream, SocketAddr)| ask(stream).with_context(|| format!("ask {to}"));
    let (rate, latency) = match talk {
        Talk::Kept => {
            let kept = dial()?;
            time(count, || exchange(&kept))?
        }
        Talk::Anew => time(count, || exchange(&dial()?))?,
    };
    Ok(Told { rate, latency, connections })
}

/// How many of `count` are had a second, and how long one takes, in microseconds: the median, and what one of 100 exceeds.
fn time(count: u32, mut one: impl FnMut() -> Result<()>) -> Result<(f64, [f64; 2])> {
    for _ in 0..count.div_ceil(WARM) {
        one()?;
    }
    let mut times = Vec::with_capacity(count as usize);
    let begun = Instant::now();
    let mut last = begun;
    while times.len() < count as usize && last.duration_since(begun) < LIMIT {
        one()?;
        let now = Instant::now();
        times.push(now.duration_since(last).as_nanos() as f64 / 1e3);
        last = now;
    }
    let rate = times.len() as f64 / last.duration_since(begun).as_secs_f64();
    let at = |share| percentile(&times, share).unwrap_or_default();
    Ok((rate, [at(0.5), at(0.99)]))
}

/// Sends a byte and waits for the one that comes back.
fn ask(mut stream: &TcpStream) -> io::Result<()> {
    stream.write_all(&[1])?;
    match stream.read(&mut [0]) {
        Ok(1) => Ok(()),
        Ok(_) => Err(ErrorKind::UnexpectedEof.into()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(ErrorKind::TimedOut.into()),
        Err(error) => Err(error),
    }
}

/// Answers at a port until it is dropped, one connection after the other.
#[derive(Debug)]
pub(super) struct Server(Arc<TcpListener>);

impl Server {
    /// At `port` of all addresses of `space`.
    ///
    /// # Errors
    /// The kernel refused.
    pub(super) fn at(space: &Space, any: IpAddr, port: u16) -> Result<Self> {
        let listener = space.run(|| TcpListener::bind((any, port))).context("listen")?;
        let listener = Arc::new(listener);
        let serving = Arc::clone(&listener);
        thread::Builder::new().name("answers".to_owned()).spawn(move || {
            while let Ok((stream, _)) = serving.accept() {
                // Whoever asks notices.
                let _ = answer(stream);
            }
        })?;
        Ok(Self(listener))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = shutdown(&*self.0, Shutdown::Both);
    }
}

/// Sends back what comes, until nothing does.
fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut byte = [0];
    while stream.read(&mut byte)? > 0 {
        stream.write_all(&byte)?;
    }
    Ok(())
}
