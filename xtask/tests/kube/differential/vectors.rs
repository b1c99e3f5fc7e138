//! The questions: who asks which Service at which of its places by what.

use std::collections::BTreeSet;
use std::fmt;

use super::kinds::{Ends, Kind, Special};
use super::serving::Serving;

/// Who asks. Numbers are indices of nodes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Sender {
    /// A pod that is no endpoint.
    Pod(usize),
    /// The pod that is an endpoint.
    Backend(usize),
    /// A process of the node, as a pod of the host's network is.
    Node(usize),
    Outside,
}

impl Sender {
    pub(super) const ALL: [Self; 7] = [
        Self::Pod(0),
        Self::Pod(1),
        Self::Backend(0),
        Self::Backend(1),
        Self::Node(0),
        Self::Node(1),
        Self::Outside,
    ];

    /// The node that it is, or is on.
    pub(super) fn node(self) -> Option<usize> {
        match self {
            Self::Pod(node) | Self::Backend(node) | Self::Node(node) => Some(node),
            Self::Outside => None,
        }
    }

    /// Whether it is a pod.
    pub(super) fn is_pod(self) -> bool {
        matches!(self, Self::Pod(_) | Self::Backend(_))
    }
}

/// Where a Service is asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Front {
    ClusterIp,
    /// At the address of the node with this index.
    NodePort(usize),
    /// At the loopback address of who asks.
    Loopback,
    ExternalIp,
    LoadBalancer,
    /// At a port of the ClusterIP that the Service does not have.
    Unserved,
    /// At an address that no Service has, in the range of those that some have.
    Unallocated,
}

impl Front {
    const ALL: [Self; 8] = [
        Self::ClusterIp,
        Self::NodePort(0),
        Self::NodePort(1),
        Self::Loopback,
        Self::ExternalIp,
        Self::LoadBalancer,
        Self::Unserved,
        Self::Unallocated,
    ];
}

/// The places that every Service of type LoadBalancer has.
pub(super) const PLAIN: [Front; 5] =
    [Front::ClusterIp, Front::NodePort(0), Front::NodePort(1), Front::ExternalIp, Front::LoadBalancer];

/// By what it is asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Way {
    Tcp,
    Udp,
    /// An echo request.
    Echo,
}

impl Way {
    const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Echo];
}

/// A question.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Vector {
    /// The index of the Service.
    pub(super) kind: usize,
    pub(super) front: Front,
    pub(super) from: Sender,
    pub(super) way: Way,
    /// 0: IPv4, 1: IPv6.
    pub(super) family: usize,
}

impl Vector {
    /// The index of the node that chooses an endpoint. What is outside reaches Services through the first node.
    pub(super) fn at(&self) -> usize {
        match self.front {
            Front::NodePort(node) => node,
            _ => self.from.node().unwrap_or(0),
        }
    }

    /// Whether there is such a thing.
    fn is_meant(&self, kind: &Kind) -> bool {
        if self.way == Way::Echo {
            let some = matches!(kind.ends, Ends::Both | Ends::Nobody) && kind.is_plain();
            return some && matches!(self.front, Front::ClusterIp | Front::Unallocated) && self.has_front();
        }
        let udp_alone = kind.special == Special::TcpAlone && self.way == Way::Udp;
        match self.front {
            Front::Loopback => matches!(self.from, Sender::Node(_)),
            // Nobody has it, and it would be sent to and fro.
            Front::ExternalIp => !udp_alone,
            Front::LoadBalancer => match kind.special {
                Special::Named => false,
                // Who is outside is that load balancer.
                Special::Proxied => self.from != Sender::Outside,
                _ => !udp_alone,
            },
            _ => self.has_front(),
        }
    }

    /// Whether its place is not another Service's to be asked at.
    fn has_front(&self) -> bool {
        self.front != Front::Unallocated || self.kind == 0
    }
}

impl fmt::Display for Vector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { front, from, way, family, .. } = self;
        write!(f, "{from:?} asks {front:?} by {way:?} {}", ["IPv4", "IPv6"][*family])
    }
}

/// Questions, by the index of how Sluice serves meanwhile ([`Serving::ALL`]).
pub(super) type Questions = [BTreeSet<Vector>; 4];

/// All that there are, asked every time.
pub(super) fn all(kinds: &[Kind]) -> Questions {
    [(); 4].map(|()| product(kinds).into_iter().collect())
}

/// As few as have every pair of two axes' values; and all of the matrix.
pub(super) fn some(kinds: &[Kind]) -> Questions {
    let all = product(kinds);
    let mut questions = Questions::default();
    for (serving, vector) in pairwise(&all) {
        questions[serving].insert(vector);
    }
    for (serving, questions) in questions.iter_mut().enumerate() {
        questions.extend(all.iter().filter(|vector| is_of_the_matrix(vector, kinds, serving)));
    }
    questions
}

/// The product of all axes but how Sluice serves.
fn product(kinds: &[Kind]) -> Vec<Vector> {
    let mut all = Vec::new();
    for (kind, it) in kinds.iter().enumerate() {
        for front in Front::ALL {
            for from in Sender::ALL {
                for way in Way::ALL {
                    let both = [0, 1].map(|family| Vector { kind, front, from, way, family });
                    all.extend(both.into_iter().filter(|vector| vector.is_meant(it)));
                }
            }
        }
    }
    all
}

fn index<T: PartialEq>(all: &[T], one: T) -> usize {
    all.iter().position(|it| *it == one).unwrap_or(all.len())
}

/// Whether it is of the matrix: of each kind every sender asks every place, each time by another of the ways and families.
fn is_of_the_matrix(vector: &Vector, kinds: &[Kind], serving: usize) -> bool {
    let Vector { kind, front, from, way, family } = *vector;
    let turn = kind + index(&Sender::ALL, from) + 2 * index(&PLAIN, front) + serving;
    kinds[kind].is_of_the_matrix() && PLAIN.contains(&front) && turn % 4 == 2 * index(&Way::ALL, way) + family
}

/// As few as have every pair of two axes' values, taken greedily.
fn pairwise(all: &[Vector]) -> Vec<(usize, Vector)> {
    // In an order that does not exhaust one value of an axis before it comes to the next.
    const STRIDE: usize = 7919;
    let mut seen = BTreeSet::new();
    let asked = all.len() * Serving::ALL.len();
    let shuffled = (0..asked).map(|turn| turn * STRIDE % asked);
    let each = shuffled.map(|index| (index / all.len(), all[index % all.len()]));
    let chosen = each.filter(|(serving, vector)| {
        let Vector { kind, front, from, way, family } = *vector;
        let at = [
            *serving,
            kind,
            index(&Front::ALL, front),
            index(&Sender::ALL, from),
            index(&Way::ALL, way),
            family,
        ];
        let pairs = (0..at.len()).flat_map(|one| (0..one).map(move |other| (one, other)));
        let before = seen.len();
        seen.extend(pairs.map(|(one, other)| (one, other, at[one], at[other])));
        seen.len() > before
    });
    chosen.collect()
}

#[test]
fn every_pair_of_values_is_asked() {
    let kinds = super::kinds::all();
    let product = product(&kinds);
    assert_ne!(product.len() * Serving::ALL.len() % 7919, 0, "the stride meets all");
    let some = some(&kinds);
    let who = |vectors: &mut dyn Iterator<Item = &Vector>| -> BTreeSet<_> {
        vectors.map(|vector| (vector.kind, vector.from)).collect()
    };
    assert_eq!(who(&mut product.iter()), who(&mut some.iter().flatten()));
    for questions in &some {
        let fronts: BTreeSet<_> = questions.iter().map(|vector| (vector.from, vector.front)).collect();
        assert!(PLAIN.iter().all(|front| Sender::ALL.iter().all(|from| fronts.contains(&(*from, *front)))));
        assert!(questions.len() < product.len() / 10, "{} of {}", questions.len(), product.len());
    }
}
