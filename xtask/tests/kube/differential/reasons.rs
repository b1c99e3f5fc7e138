//! Why Sluice may answer otherwise than kube-proxy. The reasons stand in docs/differences.md; nothing else is one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use xtask::sh;

use super::kinds::Kind;
use super::outcome::{By, Met, Outcome, Seen};
use super::serving::Serving;
use super::vectors::{Front, Sender, Vector, Way};

/// What both proxies were told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Setting {
    /// Whether pods are told by their addresses.
    pub(super) detector: bool,
    pub(super) masquerade_all: bool,
}

/// A reason, by its name in docs/differences.md.
pub(super) type Reason = &'static str;

const OWN_NODE: Reason = "own-node";
const RETURNS: Reason = "returns";
const REPLY_LOST: Reason = "reply-lost";
const NO_DETECTOR: Reason = "no-detector";
const HAIRPIN: Reason = "hairpin";
const MASQUERADE_ALL: Reason = "masquerade-all";
const ERROR: Reason = "error";
const ECHO: Reason = "echo";

/// What the run itself may meet; for the others the page names tests.
const MET: [Reason; 8] = [OWN_NODE, RETURNS, REPLY_LOST, NO_DETECTOR, HAIRPIN, MASQUERADE_ALL, ERROR, ECHO];

/// A question and how it was asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case<'a> {
    pub(super) vector: &'a Vector,
    pub(super) kind: &'a Kind,
    pub(super) setting: Setting,
    pub(super) serving: Serving,
}

impl Case<'_> {
    /// Why `ours` differs from `theirs`, if every part of the difference has a reason.
    pub(super) fn explained(&self, theirs: &Outcome, ours: &Outcome) -> Option<BTreeSet<Reason>> {
        let their: BTreeMap<_, _> = theirs.answers().collect();
        let our: BTreeMap<_, _> = ours.answers().collect();
        let mut reasons = BTreeSet::new();
        let silent = theirs.others() == BTreeSet::from([&Met::Silence]);
        if silent && ours.0 == BTreeSet::from([Met::Stuck]) {
            // It was stuck with an endpoint whose replies are lost.
            return self.lost().map(|reason| BTreeSet::from([reason]));
        }
        let elsewhere = our.keys().any(|by| by.node() != Some(self.vector.at()));
        let lost = self.lost().filter(|_| silent && ours.others().is_empty() && elsewhere);
        if let Some(reason) = lost {
            // Once it has met silence, kube-proxy is not asked again, and has not shown all that answer.
            let right = |(by, seen): (&By, &Seen)| *seen == self.seen_without_loss(*by);
            if !our.iter().all(right) {
                return None;
            }
            reasons.insert(reason);
        } else if theirs.others() != ours.others() {
            reasons.insert(self.told(theirs, ours)?);
        }
        if lost.is_none() && !their.keys().eq(our.keys()) {
            return None;
        }
        for (by, seen) in &their {
            let ours = our.get(by)?;
            if seen != ours {
                reasons.insert(self.seen(*by, *seen, *ours)?);
            }
        }
        Some(reasons)
    }

    /// Why the endpoint `by` sees another address.
    fn seen(&self, by: By, theirs: Seen, ours: Seen) -> Option<Reason> {
        let Self { vector, setting, serving, .. } = self;
        let at = vector.at();
        if (theirs, ours) != (Seen::Node(at), Seen::Own) {
            return None;
        }
        let here = vector.from.is_pod() && vector.from.node() == Some(at);
        if vector.from == Sender::Backend(at) && by == By::Pod(at) {
            return (serving.sockets[at] && vector.way == Way::Tcp).then_some(HAIRPIN);
        }
        match by {
            By::Node(node) if node == at && here && setting.masquerade_all => Some(MASQUERADE_ALL),
            _ if here && setting.masquerade_all => None,
            _ if by.node() == Some(at) => Some(OWN_NODE),
            _ => here.then_some(RETURNS),
        }
    }

    /// Why kube-proxy may lose what another node's endpoint replies.
    fn lost(&self) -> Option<Reason> {
        let Self { vector, kind, setting, .. } = self;
        let other_pod = vector.from.is_pod() && vector.from.node() != Some(vector.at());
        match vector.front {
            Front::NodePort(_) if kind.external_local && setting.detector && other_pod => Some(REPLY_LOST),
            Front::ClusterIp if vector.from == Sender::Outside && !setting.detector => Some(NO_DETECTOR),
            _ => None,
        }
    }

    /// Whom `by` sees where kube-proxy may lose a reply.
    fn seen_without_loss(&self, by: By) -> Seen {
        let at = self.vector.at();
        if by.node() == Some(at) { Seen::Own } else { Seen::Node(at) }
    }

    /// Why somebody is told something else than an answer.
    fn told(&self, theirs: &Outcome, ours: &Outcome) -> Option<Reason> {
        let is = |outcome: &Outcome, met: Met| outcome.others() == BTreeSet::from([&met]);
        match (self.vector.way, self.vector.from) {
            (_, Sender::Node(_)) if is(theirs, Met::Denied) => {
                (is(ours, Met::Silence) || is(ours, Met::Refused)).then_some(ERROR)
            }
            (Way::Echo, _) => (is(theirs, Met::Refused) && is(ours, Met::Echo)).then_some(ECHO),
            _ => None,
        }
    }
}

/// What docs/differences.md says of each reason.
pub(super) fn page() -> BTreeMap<String, String> {
    let text = fs::read_to_string(sh::root().join("docs/differences.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    let row = |line: &str| {
        let mut columns = line.split('|').map(str::trim);
        Some((columns.next()?.trim_end_matches('`').to_owned(), columns.next()?.to_owned()))
    };
    rows.filter_map(row).collect()
}

#[test]
fn reasons_are_those_of_the_page() {
    let text = fs::read_to_string(sh::root().join("docs/differences.md")).unwrap();
    let by_the_run = |name: &str| {
        let row = text.lines().find(|line| line.starts_with(&format!("| `{name}`")));
        row.is_some_and(|row| row.contains("| the run |"))
    };
    for name in page().keys() {
        assert_eq!(by_the_run(name), MET.contains(&name.as_str()), "{name}");
    }
    assert!(MET.iter().all(|name| page().contains_key(*name)));
}

#[test]
fn what_no_reason_predicts_is_not_explained() {
    let vector =
        Vector { kind: 0, front: Front::NodePort(0), from: Sender::Outside, way: Way::Tcp, family: 0 };
    let kind = &super::kinds::all()[0];
    let setting = Setting { detector: true, masquerade_all: false };
    let case = Case { vector: &vector, kind, setting, serving: Serving::ALL[0] };
    let of = |met: &[Met]| Outcome(met.iter().cloned().collect());
    let (here, there) = (|seen| Met::Answer(By::Pod(0), seen), |seen| Met::Answer(By::Pod(1), seen));
    let theirs = of(&[here(Seen::Node(0)), there(Seen::Node(0))]);
    let ours = of(&[here(Seen::Own), there(Seen::Node(0))]);
    assert_eq!(case.explained(&theirs, &ours), Some(BTreeSet::from([OWN_NODE])));
    for other in [
        of(&[here(Seen::Own), there(Seen::Own)]),
        of(&[here(Seen::Node(1)), there(Seen::Node(0))]),
        of(&[here(Seen::Own)]),
        of(&[here(Seen::Own), there(Seen::Node(0)), Met::Silence]),
        of(&[Met::Silence]),
        of(&[Met::Refused]),
    ] {
        assert_eq!(case.explained(&theirs, &other), None, "{other}");
    }
    assert_eq!(case.explained(&of(&[Met::Refused]), &of(&[Met::Silence])), None);
    assert_eq!(case.explained(&of(&[Met::Silence]), &ours), None);
}
