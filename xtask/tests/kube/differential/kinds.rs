//! The Services that are asked: each of them makes a proxy decide in another way.

use std::fmt;

/// Who stands behind a Service. The first node is `a`, the second `b`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ends {
    /// A pod of each node.
    Both,
    /// The pod of `a`.
    First,
    /// The pod of `b`.
    Second,
    /// Nobody.
    Nobody,
    /// A process of each node, as pods of the host's network are.
    Nodes,
    /// Both pods, which terminate and serve.
    Terminating,
    /// Both pods, of which that of `a` terminates and serves.
    FirstTerminating,
    /// Both pods, which are not ready.
    Unready,
}

/// An endpoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    /// The index of its node.
    pub(super) node: usize,
    /// Whether it is a process of the node, not a pod.
    pub(super) host: bool,
    /// Its conditions: ready, serving, terminating.
    pub(super) conditions: [bool; 3],
}

const READY: [bool; 3] = [true, true, false];
const TERMINATING: [bool; 3] = [false, true, true];
const UNREADY: [bool; 3] = [false, false, false];

impl Ends {
    const ALL: [Self; 8] = [
        Self::Both,
        Self::First,
        Self::Second,
        Self::Nobody,
        Self::Nodes,
        Self::Terminating,
        Self::FirstTerminating,
        Self::Unready,
    ];

    /// The endpoints.
    pub(super) fn list(self) -> Vec<End> {
        let end = |(node, host, conditions)| End { node, host, conditions };
        let both = |host, [a, b]: [[bool; 3]; 2]| vec![(0, host, a), (1, host, b)];
        let all = match self {
            Self::Both => both(false, [READY; 2]),
            Self::First => vec![(0, false, READY)],
            Self::Second => vec![(1, false, READY)],
            Self::Nobody => Vec::new(),
            Self::Nodes => both(true, [READY; 2]),
            Self::Terminating => both(false, [TERMINATING; 2]),
            Self::FirstTerminating => both(false, [TERMINATING, READY]),
            Self::Unready => both(false, [UNREADY; 2]),
        };
        all.into_iter().map(end).collect()
    }
}

/// What else is special about a Service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Special {
    Nothing,
    /// Source ranges: node `a` and its client pod.
    Ranges,
    /// Source ranges: who is outside.
    OutsideRange,
    /// Session affinity.
    Sticky,
    /// The address of the load balancer is in mode Proxy.
    Proxied,
    /// The load balancer has a name and no address.
    Named,
    /// TCP alone.
    TcpAlone,
}

/// A kind of Service.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) ends: Ends,
    /// Whether `externalTrafficPolicy` is Local.
    pub(super) external_local: bool,
    /// Whether `internalTrafficPolicy` is.
    pub(super) internal_local: bool,
    pub(super) special: Special,
}

impl Kind {
    /// Whether nothing but its endpoints makes it special.
    pub(super) fn is_plain(&self) -> bool {
        !self.external_local && !self.internal_local && self.special == Special::Nothing
    }
}

impl Kind {
    /// Whether every sender asks it everywhere in every run: policies with an endpoint on each node, and Local ones with
    /// one elsewhere or none.
    pub(super) fn is_of_the_matrix(&self) -> bool {
        let ends = match self.ends {
            Ends::Both => true,
            Ends::Second | Ends::Nobody => self.external_local && self.internal_local,
            _ => false,
        };
        ends && self.special == Special::Nothing
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ends, external_local, internal_local, special } = self;
        write!(f, "{ends:?}")?;
        for (is_so, word) in [(external_local, "external Local"), (internal_local, "internal Local")] {
            if *is_so {
                write!(f, ", {word}")?;
            }
        }
        if *special == Special::Nothing { Ok(()) } else { write!(f, ", {special:?}") }
    }
}

/// All of them. The first is the plain one.
pub(super) fn all() -> Vec<Kind> {
    let kind = |ends, external_local, internal_local, special| Kind {
        ends,
        external_local,
        internal_local,
        special,
    };
    let policies = [(false, false), (true, false), (false, true), (true, true)];
    let plain = Ends::ALL.iter().flat_map(|ends| {
        policies.map(|(external, internal)| kind(*ends, external, internal, Special::Nothing))
    });
    let special = [
        kind(Ends::Both, false, false, Special::Ranges),
        kind(Ends::Second, true, false, Special::Ranges),
        kind(Ends::Nobody, false, false, Special::Ranges),
        kind(Ends::Both, false, false, Special::OutsideRange),
        kind(Ends::Nobody, true, false, Special::OutsideRange),
        kind(Ends::Both, false, false, Special::Sticky),
        kind(Ends::Both, true, false, Special::Sticky),
        kind(Ends::Both, false, false, Special::Proxied),
        kind(Ends::Both, true, false, Special::Named),
        kind(Ends::Both, false, false, Special::TcpAlone),
    ];
    plain.chain(special).collect()
}
