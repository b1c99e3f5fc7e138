//! Client sockets, kept by number between requests.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{io, iter, thread};

use rustix::net::sockopt::{Timeout, set_socket_linger, set_socket_reuseaddr, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, ipproto};
use rustix::net::{bind, connect, getpeername, getsockname, recv, send, socket};

use super::wire::{Answer, Failure, Opened, Socket, millis};

/// How long any call may take before it counts as unanswered.
const LIMIT: Duration = Duration::from_secs(4);

/// How many sockets ask at once: a busy machine must not take as long for them as one waits in silence.
const AT_ONCE: usize = 128;

/// The open sockets.
#[derive(Default)]
pub(super) struct Sockets {
    open: BTreeMap<u64, OwnedFd>,
    next: u64,
}

impl Sockets {
    /// Opens a socket, binds it to `from` (which other sockets may share) and connects it to `to` where these are
    /// given; IPv4 if neither is.
    pub(super) fn open(
        &mut self,
        kind: Socket,
        from: Option<SocketAddr>,
        to: Option<SocketAddr>,
    ) -> Result<Opened, Failure> {
        let start = Instant::now();
        let failed =
            |what: &'static str| move |error: rustix::io::Errno| Failure::new(what, &error.into(), start);
        let family = match to.or(from) {
            Some(SocketAddr::V6(_)) => AddressFamily::INET6,
            _ => AddressFamily::INET,
        };
        let (typ, protocol) = match kind {
            Socket::Tcp => (SocketType::STREAM, ipproto::TCP),
            Socket::Mptcp => (SocketType::STREAM, ipproto::MPTCP),
            Socket::Udp => (SocketType::DGRAM, ipproto::UDP),
        };
        let fd = socket(family, typ, Some(protocol)).map_err(failed("socket"))?;
        for timeout in [Timeout::Send, Timeout::Recv] {
            set_socket_timeout(&fd, timeout, Some(LIMIT)).map_err(failed("set a time-out"))?;
        }
        // Those that the kernel has chosen, too: the numbers of others may be among them.
        set_socket_reuseaddr(&fd, true).map_err(failed("share the port"))?;
        if let Some(from) = from {
            bind(&fd, &from).map_err(failed("bind"))?;
        }
        if let Some(to) = to {
            connect(&fd, &to).map_err(failed("connect"))?;
        }
        let took_ms = millis(start.elapsed());
        let local = getsockname(&fd).and_then(SocketAddr::try_from).map_err(failed("getsockname"))?;
        let peer = getpeername(&fd).ok().and_then(|peer| SocketAddr::try_from(peer?).ok());
        self.next += 1;
        self.open.insert(self.next, fd);
        Ok(Opened { id: self.next, local, peer, took_ms })
    }

    /// Sends one line or datagram and waits for the answer to it.
    pub(super) fn ask(&mut self, id: u64, to: Option<SocketAddr>) -> Result<Answer, Failure> {
        let start = Instant::now();
        let Some(fd) = self.open.get(&id) else {
            return Err(Failure::other("no such socket"));
        };
        ask(fd, to).map_err(|error| Failure::new("ask", &error, start))
    }

    /// Closes a socket.
    pub(super) fn close(&mut self, id: u64) {
        self.open.remove(&id);
    }
}

/// Asks by a socket of its own each, many at once: what waits for silence holds up nothing else.
pub(super) fn ask_all(asked: &[(Socket, SocketAddr, SocketAddr)]) -> Vec<Result<Answer, Failure>> {
    let once = |(kind, from, to): (Socket, SocketAddr, SocketAddr)| {
        let mut sockets = Sockets::default();
        let opened = match sockets.open(kind, Some(from), Some(to)) {
            // A program of the node has it.
            Err(failure) if failure.kind == "AddrInUse" => sockets.open(kind, None, Some(to)),
            opened => opened,
        }?;
        // A connection ends by a RST, at once and everywhere: when its port comes round again nothing of it is there.
        if let (Socket::Tcp, Some(fd)) = (kind, sockets.open.get(&opened.id)) {
            set_socket_linger(fd, Some(Duration::ZERO))
                .map_err(|error| Failure::other(&error.to_string()))?;
        }
        sockets.ask(opened.id, None)
    };
    let next = AtomicUsize::new(0);
    let work = || {
        let answered = iter::from_fn(|| {
            let index = next.fetch_add(1, Ordering::Relaxed);
            Some((index, once(*asked.get(index)?)))
        });
        answered.collect::<Vec<_>>()
    };
    let ended = || Err(Failure::other("the thread that asked has panicked"));
    let mut answers: Vec<_> = asked.iter().map(|_| ended()).collect();
    thread::scope(|scope| {
        let asking: Vec<_> = (0..asked.len().min(AT_ONCE)).map(|_| scope.spawn(work)).collect();
        for (index, answer) in asking.into_iter().flat_map(|asking| asking.join().unwrap_or_default()) {
            answers[index] = answer;
        }
    });
    answers
}

/// Sends one line or datagram, to `to` where that is given, and waits for the answer.
pub(super) fn ask(fd: &OwnedFd, to: Option<SocketAddr>) -> io::Result<Answer> {
    let mut buffer = [0; 2048];
    if let Some(to) = to {
        let socket = UdpSocket::from(fd.try_clone()?);
        socket.send_to(b"?\n", to)?;
        let (len, from) = socket.recv_from(&mut buffer)?;
        let answer: Answer = serde_json::from_slice(buffer.get(..len).unwrap_or_default())?;
        return Ok(Answer { from: Some(from), ..answer });
    }
    send(fd, b"?\n", SendFlags::NOSIGNAL)?;
    // An answer is one datagram, or one segment: it is short and sent by one write.
    let (len, _) = recv(fd, &mut buffer, RecvFlags::empty())?;
    if len == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(buffer.get(..len).unwrap_or_default())?)
}
