//! The same questions to kube-proxy and to Sluice, on the same nodes before the same API server; and every difference with
//! its reason.

mod kinds;
mod matrix;
mod outcome;
mod reasons;
mod scene;
mod serving;
mod vectors;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt::Write as _;
use std::io::{Write as _, stdout};
use std::thread;

use xtask::kube::{Binaries, Tool, incumbent};
use xtask::lab::{Agent, Machine};
use xtask::sh;

use self::matrix::Matrices;
use self::outcome::Outcome;
use self::reasons::{Case, Reason, Setting};
use self::scene::Scene;
use self::serving::Serving;
use self::vectors::Vector;

const DETECTOR: Setting = Setting { detector: true, masquerade_all: false };
const SETTINGS: [Setting; 3] = [
    DETECTOR,
    Setting { detector: false, masquerade_all: false },
    Setting { detector: true, masquerade_all: true },
];

/// What came of each question.
type Outcomes = BTreeMap<Vector, Outcome>;

impl Setting {
    /// The flags that both proxies know.
    fn flags(self) -> Vec<&'static str> {
        let detector = self.detector.then_some("--cluster-cidr=10.244.0.0/16,fd00:10:244::/48");
        detector.into_iter().chain(self.masquerade_all.then_some("--masquerade-all")).collect()
    }
}

/// Has `start` start something on each node at once.
fn on_both(scene: &Scene, start: impl Fn(usize) -> Agent + Sync) -> Vec<Agent> {
    thread::scope(|scope| {
        let start = &start;
        let starting: Vec<_> =
            (0..scene.machines().len()).map(|node| scope.spawn(move || start(node))).collect();
        starting.into_iter().map(|thread| sh::joined(thread.join())).collect()
    })
}

/// What Sluice makes of `vectors`, and what it has dropped meanwhile. It leaves nothing behind.
fn ours(scene: &Scene, setting: Setting, serving: Serving, vectors: &BTreeSet<Vector>) -> (Outcomes, String) {
    if serving.xdp {
        scene.cluster.network().wire().unwrap();
    }
    let sent = || scene.machines().iter().map(|machine| machine.xdp_frames().unwrap()).collect::<Vec<_>>();
    let before = sent();
    let agents = on_both(scene, |node| {
        let machine = &scene.machines()[node];
        let flags = [serving.flags(node), setting.flags(), vec!["--reject-rate", "1000000"]].concat();
        let agent = Agent::start(machine, &flags).unwrap();
        let ways = machine.sluice_json(&["status"]).unwrap()["xdp"].clone();
        assert_eq!(ways[0]["native"], serving.xdp, "{ways}\n{}", agent.log());
        agent
    });
    let outcomes = scene.ask(vectors);
    let dropped = scene.machines().iter().map(dropped).collect::<Vec<_>>().join("; ");
    for (before, after) in before.into_iter().zip(sent()) {
        assert_eq!(after > before, serving.xdp, "{serving}: XDP has sent {before}, then {after} frames");
    }
    for (agent, machine) in agents.into_iter().zip(scene.machines()) {
        agent.stop().unwrap();
        sh::read(&mut machine.sluice(&["cleanup"])).unwrap();
    }
    (outcomes, dropped)
}

/// What Sluice has dropped on a node, for who is to find out why something was not answered.
fn dropped(machine: &Machine) -> String {
    let stats = machine.sluice_json(&["stats"]).unwrap();
    let reasons = stats["reasons"].as_array().unwrap().iter().filter(|it| it["effect"] == "drop");
    let counts = reasons.map(|it| format!("{} {}", it["reason"].as_str().unwrap(), it["count"]));
    format!("{} has dropped: {}", machine.name(), counts.collect::<Vec<_>>().join(", "))
}

/// What kube-proxy makes of them. Nothing of it is remembered: another setting must not meet what this one has decided.
fn theirs(scene: &Scene, setting: Setting, vectors: &BTreeSet<Vector>) -> Outcomes {
    let binaries = Binaries::get(&[Tool::KubeProxy]).unwrap();
    let proxies = on_both(scene, |node| {
        incumbent::start(&scene.machines()[node], &binaries, &setting.flags()).unwrap()
    });
    let outcomes = scene.ask(vectors);
    for proxy in proxies {
        proxy.stop().unwrap();
    }
    scene.machines().iter().for_each(|machine| incumbent::forget(machine).unwrap());
    outcomes
}

/// What came of a comparison.
#[derive(Default)]
struct Compared {
    asked: usize,
    equal: usize,
    /// How many differ for the same reasons, and one of them.
    explained: BTreeMap<Vec<Reason>, (usize, String)>,
    defects: Vec<String>,
}

impl Compared {
    fn add(&mut self, case: &Case<'_>, theirs: &Outcome, ours: &Outcome) {
        self.asked += 1;
        if theirs == ours {
            self.equal += 1;
            return;
        }
        let Case { vector, kind, setting, serving } = case;
        let flags = setting.flags().join(" ");
        let text = format!("{vector} of ({kind}); {flags} {serving}: kube-proxy {theirs}; Sluice {ours}");
        match case.explained(theirs, ours) {
            Some(reasons) => {
                self.explained.entry(reasons.into_iter().collect()).or_insert((0, text)).0 += 1;
            }
            None => self.defects.push(text),
        }
    }

    /// The number of equal vectors, and the list of differences, each with its reason.
    fn report(&self) -> String {
        let page = reasons::page();
        let mut text = format!("differential: {} vectors, {} equal\n", self.asked, self.equal);
        for (reasons, (count, example)) in &self.explained {
            let says: Vec<_> = reasons.iter().map(|name| format!("{name}: {}", page[*name])).collect();
            let _ = writeln!(text, "  {count} differ: {}\n    such as {example}", says.join("; "));
        }
        for defect in &self.defects {
            let _ = writeln!(text, "  NO REASON: {defect}");
        }
        text
    }
}

#[test]
fn b36_b42_b54_b55_b67_b69_b73_b74_b77_the_same_questions_to_kube_proxy() {
    let long = env::var_os("SLUICE_TEST_LONG").is_some();
    let scene = Scene::new();
    let (questions, settings) = match long {
        true => (vectors::all(&scene.kinds), &SETTINGS[..]),
        false => (vectors::some(&scene.kinds), &[DETECTOR][..]),
    };
    let mut all = Vec::new();
    for (serving, questions) in Serving::ALL.into_iter().zip(&questions) {
        for setting in settings {
            all.push((*setting, serving, ours(&scene, *setting, serving, questions)));
        }
    }
    let asked = questions.iter().flatten().copied().collect();
    let (mut compared, mut not_held) = (Compared::default(), Vec::new());
    for setting in settings {
        let theirs = theirs(&scene, *setting, &asked);
        for (_, serving, (ours, dropped)) in all.iter().filter(|(of, ..)| of == setting) {
            let (mut matrices, known) = (Matrices::default(), compared.defects.len());
            for (vector, ours) in ours {
                let case =
                    Case { vector, kind: &scene.kinds[vector.kind], setting: *setting, serving: *serving };
                compared.add(&case, &theirs[vector], ours);
                matrices.add(&case, &format!("{} {serving}", setting.flags().join(" ")), ours);
            }
            if compared.defects.len() > known {
                compared.defects.push(format!("meanwhile {dropped}"));
            }
            not_held.extend(matrices.finish());
        }
    }
    let report = compared.report();
    // Past the capture of what tests print: this is to be seen.
    stdout().write_all(report.as_bytes()).unwrap();
    assert!(not_held.is_empty(), "{}", not_held.join("\n"));
    assert!(compared.defects.is_empty(), "without a reason:\n{}", compared.defects.join("\n"));
}
