//! What a space and its helper say to each other: one JSON document a line, one reply to each request.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// A transport protocol that servers offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transport {
    /// Streams.
    Tcp,
    /// Datagrams.
    Udp,
}

/// A kind of client socket. Its address family is that of the address it is opened with: an IPv4-mapped IPv6 address
/// gives an AF_INET6 socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Socket {
    /// SOCK_STREAM.
    Tcp,
    /// SOCK_STREAM of IPPROTO_MPTCP.
    Mptcp,
    /// SOCK_DGRAM.
    Udp,
}

/// A request to the helper.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Serve in the background, on every address of both families.
    Serve {
        /// What to listen for.
        transport: Transport,
        /// The port.
        port: u16,
        /// The name that the answers carry.
        name: String,
    },
    /// Open a socket.
    Open {
        /// Its kind.
        socket: Socket,
        /// Bind to this first.
        from: Option<SocketAddr>,
        /// Connect to this.
        to: Option<SocketAddr>,
    },
    /// Send something and wait for the answer.
    Ask {
        /// Which socket.
        id: u64,
        /// For an unconnected socket: whom to send to.
        to: Option<SocketAddr>,
    },
    /// Ask by sockets of their own, many at once: kind, address to bind to, whom to ask.
    AskAll(Vec<(Socket, SocketAddr, SocketAddr)>),
    /// Close a socket.
    Close {
        /// Which socket.
        id: u64,
    },
    /// Try connections until they are answered.
    Reach(Reach),
    /// Send HTTP requests in the background.
    StartLoad(Load),
    /// End them and report.
    StopLoad,
}

/// The helper's reply.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// Done; there is nothing to say about it.
    Done,
    /// The socket is open.
    Opened(Opened),
    /// The backend's answer.
    Answer(Answer),
    /// What each socket came to.
    Answers(Vec<Result<Answer, Failure>>),
    /// All were answered.
    Reached(Reached),
    /// How the requests went.
    Load(LoadReport),
}

/// An open socket.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Opened {
    /// Its number among the helper's sockets.
    pub id: u64,
    /// getsockname.
    pub local: SocketAddr,
    /// getpeername.
    pub peer: Option<SocketAddr>,
    /// How long connect took, milliseconds.
    pub took_ms: u64,
}

/// What a backend answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The backend's name.
    pub pod: String,
    /// The client as the backend sees it; IPv4-mapped addresses are given as IPv4.
    pub client: SocketAddr,
    /// For a datagram: who it came from, as the client sees it.
    #[serde(default)]
    pub from: Option<SocketAddr>,
}

/// Addresses to try, one after the other, each by a new connection until it is answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reach {
    /// Where to.
    pub to: Vec<SocketAddr>,
    /// The name of the backend that has to answer; any does if there is none.
    pub pod: Option<String>,
    /// Microseconds between the beginnings of two connections to an address.
    pub pause_us: u64,
    /// How long all of it may take, milliseconds.
    pub limit_ms: u64,
}

/// All addresses have answered.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Reached {
    /// When the last of the answers had come, nanoseconds of the monotonic clock.
    pub at: u64,
    /// Connections that were tried.
    pub tries: u64,
}

/// Requests to send in the background.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Load {
    /// Where to.
    pub to: SocketAddr,
    /// How many clients at once; each waits for its answer before it sends again.
    pub clients: u32,
    /// Requests per second of all clients together, should they all be answered in time.
    pub rate: u32,
}

/// How the requests of a load went.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LoadReport {
    /// The names of the backends that answered.
    pub pods: Vec<String>,
    /// Every answered request: when it was started, nanoseconds of the monotonic clock, and the index of the backend.
    pub answered: Vec<(u64, usize)>,
    /// Every request that failed: when it was started, and how.
    pub failed: Vec<(u64, String)>,
}

impl LoadReport {
    /// How many requests were sent.
    #[must_use]
    pub fn sent(&self) -> usize {
        self.answered.len() + self.failed.len()
    }

    /// How many requests that were started after `since` (nanoseconds of the monotonic clock) `pod` answered.
    #[must_use]
    pub fn answered_by(&self, pod: &str, since: u64) -> usize {
        let of_pod = |&&(start, index): &&(u64, usize)| {
            start > since && self.pods.get(index).is_some_and(|p| p == pod)
        };
        self.answered.iter().filter(of_pod).count()
    }
}

/// A socket call that failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// The name of the [`io::ErrorKind`], such as `ConnectionRefused`.
    pub kind: String,
    /// The whole message.
    pub text: String,
    /// How long the call took, milliseconds.
    pub took_ms: u64,
}

impl Failure {
    /// A failure of the call `what`, begun at `start`.
    #[must_use]
    pub fn new(what: &str, error: &io::Error, start: Instant) -> Self {
        Self {
            kind: format!("{:?}", error.kind()),
            text: format!("{what}: {error}"),
            took_ms: millis(start.elapsed()),
        }
    }

    /// A failure that is none of a socket call.
    #[must_use]
    pub fn other(text: &str) -> Self {
        Self { kind: "Other".to_owned(), text: text.to_owned(), took_ms: 0 }
    }

    /// A reply that does not fit the request.
    #[must_use]
    pub fn protocol(reply: &Reply) -> Self {
        Self::other(&format!("unexpected reply {reply:?}"))
    }

    /// Whether the connection was refused, at once: far below the first retransmission of a SYN, which comes after 1 s.
    #[must_use]
    pub fn refused_at_once(&self) -> bool {
        self.kind == "ConnectionRefused" && self.took_ms < 700
    }

    /// Whether nothing came back for as long as the caller had patience: neither a refusal nor another ICMP error.
    #[must_use]
    pub fn is_silence(&self) -> bool {
        !self.kind.contains("Refused") && !self.kind.contains("Unreachable") && self.took_ms > 2000
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} after {} ms", self.text, self.took_ms)
    }
}

impl std::error::Error for Failure {}

/// Whole milliseconds.
#[must_use]
pub fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
