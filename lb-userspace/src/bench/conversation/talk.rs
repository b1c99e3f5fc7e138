//! The two ends of conversations: who asks, and who answers.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use lb_bench::percentile;
use lb_common::Proto;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recvfrom, sendto, shutdown};

use crate::bench::Extent;
use crate::bench::frame::{nth, scattered, unspecified};
use crate::bpf::space::Space;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long they are had at once, on a machine that does not get through with them sooner.
const LIMIT: Duration = Duration::from_millis(400);
/// One in so many more is had before they are timed.
const WARM: u32 = 20;
/// Bytes that are written or read at once where many are.
const MUCH: usize = 128 << 10;

/// What a conversation is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::bench) enum Talk {
    /// A byte there and a byte back over a TCP connection that is kept.
    Kept,
    /// The same over one that is made for them, and closed by who asked.
    Anew,
    /// The same in datagrams of a connected UDP socket.
    Datagrams,
    /// So many TCP connections at once, one way, as much as goes.
    Streams(u32),
}

impl Talk {
    /// The protocol of the Services.
    pub(super) const fn proto(self) -> Proto {
        match self {
            Self::Datagrams => Proto::Udp,
            Self::Kept | Self::Anew | Self::Streams(_) => Proto::Tcp,
        }
    }

    /// How many are had each way in a round: about a seventh of a second.
    fn count(self, extent: &Extent) -> u32 {
        match self {
            Self::Kept | Self::Datagrams => extent.runs.div_ceil(2),
            Self::Anew => extent.runs.div_ceil(10),
            Self::Streams(count) => count,
        }
    }

    /// How many connections that takes.
    pub(super) fn connections(self, extent: &Extent) -> u32 {
        match self {
            Self::Kept | Self::Datagrams => 1,
            Self::Anew => self.count(extent) + self.count(extent).div_ceil(WARM),
            Self::Streams(count) => count,
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
    /// Number `number`, mostly far from the one before.
    fn number(self, number: u32) -> SocketAddr {
        SocketAddr::new(nth(self.first, scattered(number, self.count)), self.port)
    }
}

/// What was had.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Told {
    /// Conversations a second; of streams 10^9 bits.
    pub(super) rate: f64,
    /// Microseconds that half of them did not exceed, and 99 of 100; none of streams.
    pub(super) latency: [f64; 2],
    /// Connections that were made, those that nobody timed among them.
    pub(super) connections: u32,
    /// Conversations that were timed; none of streams.
    pub(super) timed: u32,
}

/// Has conversations with who is `called`, from number `from` on, out of the namespace of this thread. `taken` counts the bytes
/// that servers take.
///
/// # Errors
/// A call that fails, or is not answered in time.
pub(super) fn converse(
    talk: Talk,
    extent: &Extent,
    called: Called,
    from: u32,
    taken: &AtomicU64,
) -> Result<Told> {
    let count = talk.count(extent);
    let mut connections = 0;
    let mut dial = || {
        let to = called.number(from.wrapping_add(connections));
        connections += 1;
        let stream = TcpStream::connect(to).with_context(|| format!("connect() to {to}"))?;
        stream.set_read_timeout(Some(PATIENCE)).context("setsockopt")?;
        Ok::<_, anyhow::Error>((stream, to))
    };
    let exchange = |(stream, to): &(TcpStream, SocketAddr)| {
        let asked = (&*stream).write_all(&[1]).and_then(|()| one(|| (&*stream).read(&mut [0])));
        asked.with_context(|| format!("ask {to}"))
    };
    let (rate, latency, timed) = match talk {
        Talk::Kept => {
            let kept = dial()?;
            time(count, || exchange(&kept))?
        }
        Talk::Anew => time(count, || exchange(&dial()?))?,
        Talk::Datagrams => {
            let to = called.number(from);
            connections = 1;
            let socket = UdpSocket::bind((unspecified(to.ip()), 0)).context("bind()")?;
            socket.connect(to).with_context(|| format!("connect() to {to}"))?;
            socket.set_read_timeout(Some(PATIENCE)).context("setsockopt")?;
            time(count, || {
                let asked = socket.send(&[1]).and_then(|_| one(|| socket.recv(&mut [0])));
                asked.with_context(|| format!("ask {to}"))
            })?
        }
        Talk::Streams(_) => {
            let streams = (0..count).map(|_| dial()).collect::<Result<Vec<_>>>()?;
            (pour(&streams, Duration::from_micros(10) * extent.runs, taken)?, [0.0; 2], 0)
        }
    };
    Ok(Told { rate, latency, connections, timed })
}

/// That `read` has read one byte.
fn one(read: impl FnOnce() -> io::Result<usize>) -> io::Result<()> {
    match read() {
        Ok(1) => Ok(()),
        Ok(_) => Err(ErrorKind::UnexpectedEof.into()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(ErrorKind::TimedOut.into()),
        Err(error) => Err(error),
    }
}

/// How many of `count` are had a second; how long one takes, in microseconds: the median, and what one of 100 exceeds; and how
/// many were timed.
fn time(count: u32, mut one: impl FnMut() -> Result<()>) -> Result<(f64, [f64; 2], u32)> {
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
    Ok((rate, [at(0.5), at(0.99)], times.len() as u32))
}

/// How many 10^9 bits a second servers take of `streams`, all at once, for `time` at most.
fn pour(streams: &[(TcpStream, SocketAddr)], time: Duration, taken: &AtomicU64) -> Result<f64> {
    let time = time.min(LIMIT);
    let over = AtomicBool::new(false);
    let fill = |(stream, to): &(TcpStream, SocketAddr)| {
        let much = vec![0; MUCH];
        let mut poured = stream.set_write_timeout(Some(PATIENCE));
        while poured.is_ok() && !over.load(Ordering::Relaxed) {
            poured = (&*stream).write_all(&much);
        }
        // The next may begin when all has arrived.
        let ended = poured.and_then(|()| stream.shutdown(std::net::Shutdown::Write));
        let ended = ended.and_then(|()| (&*stream).read_to_end(&mut Vec::new()));
        ended.map(|_| ()).with_context(|| format!("send to {to}"))
    };
    thread::scope(|scope| {
        let streams: Vec<_> = streams.iter().map(|stream| scope.spawn(|| fill(stream))).collect();
        thread::sleep(time / WARM);
        let (begun, before) = (Instant::now(), taken.load(Ordering::Relaxed));
        thread::sleep(time);
        let (bytes, seconds) = (taken.load(Ordering::Relaxed) - before, begun.elapsed().as_secs_f64());
        over.store(true, Ordering::Relaxed);
        for stream in streams {
            match stream.join() {
                Ok(ended) => ended?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(bytes as f64 * 8.0 / seconds / 1e9)
    })
}

/// Answers at a port until it is dropped.
#[derive(Debug)]
pub(super) struct Server(Arc<Socket>);

#[derive(Debug)]
enum Socket {
    Listener(TcpListener),
    Datagrams(UdpSocket),
}

impl Server {
    /// At `port` of all addresses of `space`; datagrams at `addr` alone, or answers would not come from there. What streams bring
    /// is counted in `taken`.
    ///
    /// # Errors
    /// The kernel refused.
    pub(super) fn at(
        space: &Space,
        talk: Talk,
        addr: IpAddr,
        port: u16,
        taken: &Arc<AtomicU64>,
    ) -> Result<Self> {
        let socket = space.run(|| match talk {
            Talk::Datagrams => UdpSocket::bind((addr, port)).map(Socket::Datagrams),
            _ => TcpListener::bind((unspecified(addr), port)).map(Socket::Listener),
        });
        let socket = Arc::new(socket.context("listen")?);
        let (serving, taken) = (Arc::clone(&socket), Arc::clone(taken));
        // Whoever asks notices what fails here.
        let work = move || match (&*serving, talk) {
            (Socket::Listener(listener), Talk::Streams(_)) => {
                while let Ok((stream, _)) = listener.accept() {
                    let taken = Arc::clone(&taken);
                    thread::spawn(move || swallow(stream, &taken));
                }
            }
            (Socket::Listener(listener), _) => {
                while let Ok((stream, _)) = listener.accept() {
                    let _ = answer(stream);
                }
            }
            (Socket::Datagrams(socket), _) => {
                // Once the socket is shut down nothing comes from nobody, which the standard library does not bear.
                while let Ok((_, 1.., Some(from))) = recvfrom(socket, &mut [0_u8], RecvFlags::empty()) {
                    let _ = sendto(socket, &[1], SendFlags::empty(), &from);
                }
            }
        };
        thread::Builder::new().name("answers".to_owned()).spawn(work).context("start a thread")?;
        Ok(Self(socket))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let socket: BorrowedFd<'_> = match &*self.0 {
            Socket::Listener(listener) => listener.as_fd(),
            Socket::Datagrams(socket) => socket.as_fd(),
        };
        // It says that datagrams have no connection, and wakes who waits for one.
        let _ = shutdown(socket, Shutdown::Both);
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

/// Takes what comes, until nothing does.
fn swallow(mut stream: TcpStream, taken: &AtomicU64) {
    let mut much = vec![0; MUCH];
    while let Ok(bytes @ 1..) = stream.read(&mut much) {
        taken.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
