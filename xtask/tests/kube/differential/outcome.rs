//! What a client meets, told in words that do not depend on which proxy decided.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::process::Output;

use xtask::lab::helper::wire::{Answer, Failure};

/// Whose address an endpoint has seen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Seen {
    /// The client's.
    Own,
    /// That of the node with this index, which is not the client.
    Node(usize),
    Other(IpAddr),
}

/// Who has answered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum By {
    /// The pod of the node with this index.
    Pod(usize),
    /// A process of it.
    Node(usize),
    /// A load balancer in mode Proxy.
    Balancer,
}

impl By {
    const ALL: [Self; 5] = [Self::Pod(0), Self::Pod(1), Self::Node(0), Self::Node(1), Self::Balancer];

    /// The name that its server answers with.
    pub(super) fn name(self) -> String {
        format!("{self:?}")
    }

    fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|by| by.name() == name)
    }

    /// The index of its node.
    pub(super) fn node(self) -> Option<usize> {
        match self {
            Self::Pod(node) | Self::Node(node) => Some(node),
            Self::Balancer => None,
        }
    }
}

/// What came of a question.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Met {
    Answer(By, Seen),
    /// One endpoint answered again and again, where that is all that a Service promises.
    Stuck,
    /// An echo reply.
    Echo,
    /// ECONNREFUSED, at once or after a retransmission.
    Refused,
    /// EPERM.
    Denied,
    Silence,
    Else(String),
}

impl Met {
    /// Whom `answer` came from; `own` and `nodes`: addresses of the client and of the nodes.
    fn answer(answer: &Answer, own: IpAddr, nodes: &[IpAddr]) -> Self {
        let client = answer.client.ip();
        let node = nodes.iter().position(|node| *node == client).map(Seen::Node);
        let seen = if client == own { Seen::Own } else { node.unwrap_or(Seen::Other(client)) };
        By::of(&answer.pod).map_or_else(|| Self::Else(answer.pod.clone()), |by| Self::Answer(by, seen))
    }

    fn failure(failure: &Failure) -> Self {
        match failure.kind.as_str() {
            "ConnectionRefused" => Self::Refused,
            "PermissionDenied" => Self::Denied,
            _ if failure.is_silence() => Self::Silence,
            _ => Self::Else(failure.text.clone()),
        }
    }
}

/// All that came of asking again and again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Outcome(pub(super) BTreeSet<Met>);

impl Outcome {
    /// `sticky`: which endpoint it is does not matter, if it is but one.
    pub(super) fn new(met: &[Result<Answer, Failure>], own: IpAddr, nodes: &[IpAddr], sticky: bool) -> Self {
        let each = met.iter().map(|met| match met {
            Ok(answer) => Met::answer(answer, own, nodes),
            Err(failure) => Met::failure(failure),
        });
        let all: BTreeSet<_> = each.collect();
        let one = matches!(all.iter().collect::<Vec<_>>()[..], [Met::Answer(..)]);
        Self(if sticky && one { BTreeSet::from([Met::Stuck]) } else { all })
    }

    /// What `ping` has met; it says so by its status and its text.
    pub(super) fn of_ping(output: &Output) -> Self {
        let [out, error] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
        let met = if output.status.success() {
            Met::Echo
        } else if error.contains("not permitted") {
            Met::Denied
        } else if out.to_lowercase().contains("port unreachable") || error.contains("refused") {
            Met::Refused
        } else if out.contains("From ") || !error.is_empty() && !error.contains("No buffer space") {
            // ENOBUFS: over IPv6 `ping` asks to be told of packets that are dropped where they leave.
            Met::Else(format!("{out}{error}"))
        } else {
            Met::Silence
        };
        Self(BTreeSet::from([met]))
    }

    /// Who answered, and whom each has seen.
    pub(super) fn answers(&self) -> impl Iterator<Item = (By, Seen)> {
        self.0
            .iter()
            .filter_map(|met| if let Met::Answer(by, seen) = met { Some((*by, *seen)) } else { None })
    }

    /// What else came of it.
    pub(super) fn others(&self) -> BTreeSet<&Met> {
        self.0.iter().filter(|met| !matches!(met, Met::Answer(..))).collect()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.0.iter().map(|met| match met {
            Met::Answer(by, seen) => format!("{by:?} sees {seen:?}"),
            other => format!("{other:?}"),
        });
        f.write_str(&words.collect::<Vec<_>>().join(" or "))
    }
}
