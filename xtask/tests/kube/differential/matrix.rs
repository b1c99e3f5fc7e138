//! The matrix of the layer: what Sluice owes to the plain ones among the questions, whatever kube-proxy makes of them.

use std::collections::BTreeMap;

use xtask::matrix::Matrix;

use super::outcome::{By, Met, Outcome, Seen};
use super::reasons::Case;
use super::vectors::{Front, PLAIN, Sender, Way};

/// What is owed.
enum Owed {
    /// All of these answer, and each sees the client in one of these ways.
    Answers(BTreeMap<By, Vec<Seen>>),
    Met(Met),
}

impl Owed {
    fn text(&self) -> String {
        let each = |(by, seen): (&By, &Vec<Seen>)| {
            let seen: Vec<_> = seen.iter().map(|seen| format!("{seen:?}")).collect();
            format!("{by:?} sees {}", seen.join("|"))
        };
        match self {
            Self::Answers(all) => all.iter().map(each).collect::<Vec<_>>().join(", "),
            Self::Met(met) => format!("{met:?}"),
        }
    }

    fn is_met(&self, outcome: &Outcome) -> bool {
        let answers: BTreeMap<_, _> = outcome.answers().collect();
        match self {
            Self::Answers(all) => {
                outcome.others().is_empty()
                    && all.keys().eq(answers.keys())
                    && outcome.answers().all(|(by, seen)| all[&by].contains(&seen))
            }
            Self::Met(met) => answers.is_empty() && outcome.others().into_iter().eq([met]),
        }
    }
}

impl Case<'_> {
    /// What Sluice owes; `None` where the Service or the place is none of the matrix (B36, B52 to B57, B67, B69, B74 to B77).
    fn owed(&self) -> Option<Owed> {
        let Self { vector, kind, setting, serving } = self;
        let is_plain = kind.is_of_the_matrix()
            && PLAIN.contains(&vector.front)
            && vector.way != Way::Echo
            && !setting.masquerade_all;
        let ends = is_plain.then(|| kind.ends.list())?;
        if ends.is_empty() {
            return Some(Owed::Met(Met::Refused));
        }
        let (at, from) = (vector.at(), vector.from);
        let from_outside = from.node() != Some(at);
        let short = if from.is_pod() { setting.detector } else { !from_outside };
        let local = match vector.front {
            Front::ClusterIp => kind.internal_local,
            _ => kind.external_local && !short,
        };
        let by_socket = match from {
            _ if from_outside => false,
            Sender::Node(_) => true,
            _ => serving.sockets[at] && vector.way == Way::Tcp,
        };
        let seen = |node: usize| match from {
            // A hairpin is masqueraded, but for one that its own socket makes.
            Sender::Backend(own) if own == node && by_socket => vec![Seen::Own, Seen::Node(at)],
            Sender::Backend(own) if own == node => vec![Seen::Node(at)],
            _ if from_outside && node != at => vec![Seen::Node(at)],
            _ => vec![Seen::Own],
        };
        let chosen = ends.iter().map(|end| end.node).filter(|node| !local || *node == at);
        let chosen: BTreeMap<_, _> = chosen.map(|node| (By::Pod(node), seen(node))).collect();
        Some(match chosen.is_empty() {
            false => Owed::Answers(chosen),
            // A socket of the node that sends datagrams is told at once.
            true if by_socket && vector.way == Way::Udp => Owed::Met(Met::Refused),
            true => Owed::Met(Met::Silence),
        })
    }
}

/// The matrices of one run, by Service.
#[derive(Default)]
pub(super) struct Matrices(BTreeMap<String, Matrix>);

impl Matrices {
    /// Notes what came of a question, if it is a plain one.
    pub(super) fn add(&mut self, case: &Case<'_>, setting: &str, outcome: &Outcome) {
        let Some(owed) = case.owed() else { return };
        let title = format!("before a real API server: endpoints {}", case.kind);
        let matrix = self.0.entry(title.clone()).or_insert_with(|| Matrix::new(&title, setting));
        let vector = case.vector;
        let (row, column) = (format!("{:?}", vector.from), format!("{:?}", vector.front));
        let instead =
            (!owed.is_met(outcome)).then(|| format!("{vector}: {outcome}, owed is {}", owed.text()));
        matrix.cell(&row, &column, &owed.text(), (1, instead.into_iter().collect()));
    }

    /// Hands them on; what was not held.
    pub(super) fn finish(self) -> Vec<String> {
        self.0
            .into_values()
            .filter_map(|matrix| matrix.finish().err())
            .map(|error| error.to_string())
            .collect()
    }
}
