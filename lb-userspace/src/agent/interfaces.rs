//! Programs on interfaces as they come and go.

use std::collections::{BTreeMap, BTreeSet};

use tracing::{debug, info, warn};

use super::hooks::Attach;
use crate::bpf::attach::{AttachError, Class};
use crate::net::watch::{Network, Passed};
use crate::status::Problem;

/// Interfaces that one call attaches to: the kernel waits for a grace period or two with each, some 10 ms.
const AT_ONCE: usize = 8;

/// Names of interfaces by index.
pub(super) type Named = BTreeMap<u32, String>;

/// The interfaces of one class that the agent deals with.
#[derive(Debug)]
pub(super) struct Interfaces {
    class: Class,
    /// Those with this agent's programs, by index.
    attached: Named,
    /// Those that may have links of a former agent.
    linked: BTreeSet<u32>,
    /// Those that are kept because they went down: what they are known by is gone until they return.
    resting: BTreeSet<u32>,
    /// Those that had their turn since all of them had.
    tried: BTreeSet<u32>,
    /// Why those that are not attached to are not, with their names.
    failures: BTreeMap<u32, (String, AttachError)>,
}

impl Interfaces {
    /// `linked`: the interfaces that a former agent had attached to.
    pub(super) fn new(class: Class, linked: BTreeSet<u32>) -> Self {
        Self {
            class,
            attached: Named::new(),
            linked,
            resting: BTreeSet::new(),
            tried: BTreeSet::new(),
            failures: BTreeMap::new(),
        }
    }

    /// Detaches from interfaces that are not `wanted` any more, and attaches to those that have no programs yet, a few in
    /// each call; true if another call, at once, has more of them to do. `gone`: vanished since the last call, their
    /// indices possibly taken again. Blocks.
    ///
    /// What fails has its turn again after all others.
    pub(super) fn follow(&mut self, wanted: &Named, gone: &BTreeSet<u32>, attach: &impl Attach) -> bool {
        let known = self.attached.keys().chain(&self.linked).copied();
        let left: BTreeSet<u32> =
            known.filter(|index| gone.contains(index) || !wanted.contains_key(index)).collect();
        for index in left {
            self.leave(index, attach);
        }
        self.failures.retain(|index, _| wanted.contains_key(index));
        self.tried.retain(|index| !gone.contains(index));
        let mut turns = 0;
        for (index, name) in wanted {
            if let Some(known) = self.attached.get_mut(index) {
                known.clone_from(name);
            } else if turns == AT_ONCE && !self.tried.contains(index) {
                return true;
            } else if self.tried.insert(*index) {
                turns += 1;
                self.enter(*index, name, attach);
            }
        }
        self.tried.clear();
        false
    }

    /// Notices were lost: any interface may be another one now. The next call looks at each link again, and those that
    /// are right stay where they are.
    pub(super) fn doubt(&mut self) {
        self.linked.extend(std::mem::take(&mut self.attached).into_keys());
    }

    /// Adds to `wanted` what this agent or a former one has attached to, if it is there still and none of the `others`:
    /// for as long as nobody knows better.
    pub(super) fn keep(&self, wanted: &mut Named, others: &Named, network: &Network) {
        let mine = self.linked.iter().chain(self.attached.keys());
        wanted.extend(
            mine.filter(|index| !others.contains_key(index)).filter_map(|index| named(*index, network)),
        );
    }

    /// Adds to `wanted` what has programs and went down, as `passed` says or `network`, and the routes and addresses that
    /// it is known by with it: flows that go by it shall not meet an interface without programs when it returns. It
    /// stays until it is wanted again, vanishes, or is one of the `others`.
    pub(super) fn rest(&mut self, wanted: &mut Named, others: &Named, passed: &Passed, network: &Network) {
        let down = |index: &u32| {
            passed.down.contains(index)
                || network.interfaces.get(index).is_some_and(|interface| !interface.up)
        };
        self.resting.extend(self.linked.iter().chain(self.attached.keys()).copied().filter(down));
        self.resting.retain(|index| {
            !wanted.contains_key(index) && !others.contains_key(index) && !passed.gone.contains(index)
        });
        wanted.extend(self.resting.iter().filter_map(|index| named(*index, network)));
    }

    /// Whether the interface has the programs.
    pub(super) fn serves(&self, index: u32) -> bool {
        self.attached.contains_key(&index)
    }

    /// Whether the interface has the programs, or those of a former agent.
    pub(super) fn knows(&self, index: u32) -> bool {
        self.serves(index) || self.linked.contains(&index)
    }

    /// Names of the interfaces that have the programs.
    pub(super) fn names(&self) -> Vec<String> {
        self.attached.values().cloned().collect()
    }

    /// Interfaces that could not be attached to, and what follows.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let problem = |(name, error): &(String, AttachError)| {
            Problem::new(format!("interface {name}"), format!("{}: {error}", follows(self.class)))
        };
        self.failures.values().map(problem).collect()
    }

    /// The same by index, as the kernel has answered.
    pub(super) fn failures(&self) -> impl Iterator<Item = (u32, &AttachError)> {
        self.failures.iter().map(|(index, (_, error))| (*index, error))
    }

    fn enter(&mut self, index: u32, name: &str, attach: &impl Attach) {
        match attach.attach(self.class, index, name) {
            Ok(()) => {
                info!(interface = name, "attached");
                self.linked.remove(&index);
                self.failures.remove(&index);
                self.attached.insert(index, name.to_owned());
            }
            // The notice of it is on its way.
            Err(error) if error.is_gone() => debug!(interface = name, "{error}"),
            Err(error) => {
                let known = self.failures.get(&index).map(|(_, error)| error.to_string());
                if known.is_none_or(|known| known != error.to_string()) {
                    let text = format!("{}: {error}", follows(self.class));
                    if self.class == Class::Xdp {
                        info!(interface = name, "{text}");
                    } else {
                        warn!(interface = name, "{text}");
                    }
                }
                self.failures.insert(index, (name.to_owned(), error));
            }
        }
    }

    fn leave(&mut self, index: u32, attach: &impl Attach) {
        match attach.detach(self.class, index) {
            Ok(()) => {
                self.linked.remove(&index);
                if let Some(name) = self.attached.remove(&index) {
                    info!(interface = name, "detached");
                }
            }
            Err(error) => warn!("links of the interface with index {index} stay: {error}"),
        }
    }
}

/// The interface with this index, if it is there.
fn named(index: u32, network: &Network) -> Option<(u32, String)> {
    network.interfaces.get(&index).map(|interface| (index, interface.name.clone()))
}

/// What follows where the programs are not.
const fn follows(class: Class) -> &'static str {
    match class {
        Class::Pods => "pods behind it reach no Services by packets",
        Class::Outward => "what comes by it reaches no Services, and what leaves by it is not masqueraded",
        Class::Xdp => "tc alone serves what comes by it",
        Class::Shortcut => "what comes by it for pods of this node goes through the host stack",
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::RefCell;
    use std::io;

    use super::*;
    use crate::bpf::pin::PinError;
    use crate::net::interface::Interface;

    /// Writes down what it is asked to do; fails to attach to names with "bad", as the kernel does where it must not be,
    /// and to those with "taken".
    #[derive(Default)]
    pub(in crate::agent) struct Recorder(RefCell<Vec<String>>);

    impl Recorder {
        pub(in crate::agent) fn take(&self) -> String {
            self.0.take().join(" ")
        }
    }

    impl Attach for Recorder {
        fn attach(&self, _: Class, index: u32, name: &str) -> Result<(), AttachError> {
            self.0.borrow_mut().push(format!("+{index}"));
            let failures = [("bad", libc::EPERM), ("taken", libc::EBUSY)];
            match failures.into_iter().find(|(part, _)| name.contains(part)) {
                Some((_, errno)) => Err(AttachError::Syscall {
                    call: "BPF_LINK_CREATE",
                    program: "pod_ingress",
                    target: name.into(),
                    source: io::Error::from_raw_os_error(errno),
                }),
                None => Ok(()),
            }
        }

        fn detach(&self, _: Class, index: u32) -> Result<(), PinError> {
            self.0.borrow_mut().push(format!("-{index}"));
            Ok(())
        }
    }

    pub(in crate::agent) fn wanted(interfaces: &[(u32, &str)]) -> Named {
        interfaces.iter().map(|(index, name)| (*index, (*name).to_owned())).collect()
    }

    fn following(linked: &[u32]) -> (Interfaces, Recorder) {
        (Interfaces::new(Class::Pods, linked.iter().copied().collect()), Recorder::default())
    }

    #[test]
    fn interfaces_are_attached_once_and_left_when_they_go() {
        let (mut interfaces, recorder) = following(&[]);
        let none = BTreeSet::new();
        let two = wanted(&[(3, "veth1"), (4, "veth2")]);
        interfaces.follow(&two, &none, &recorder);
        assert_eq!(recorder.take(), "+3 +4");
        assert_eq!(interfaces.names(), ["veth1", "veth2"]);
        interfaces.follow(&two, &none, &recorder);
        assert_eq!(recorder.take(), "");
        interfaces.follow(&wanted(&[(4, "veth2")]), &none, &recorder);
        assert_eq!(recorder.take(), "-3");
        assert_eq!(interfaces.names(), ["veth2"]);
    }

    #[test]
    fn many_have_their_turns_and_failures_hold_up_none() {
        let (mut interfaces, recorder) = following(&[]);
        let names: Vec<_> = (1..=20).map(|i| (i, if i <= 10 { "veth-bad" } else { "veth" })).collect();
        let (network, none) = (wanted(&names), BTreeSet::new());
        assert!(interfaces.follow(&network, &none, &recorder));
        assert!(interfaces.names().is_empty());
        assert!(interfaces.follow(&network, &none, &recorder));
        // One that was tried goes, and its index with it.
        assert!(!interfaces.follow(&network, &BTreeSet::from([1]), &recorder));
        assert_eq!((interfaces.names().len(), interfaces.problems().len()), (10, 10));
        let tried: Vec<_> = (1..=16).chain([1]).chain(17..=20).map(|i| format!("+{i}")).collect();
        assert_eq!(recorder.take(), tried.join(" "));
        assert!(interfaces.follow(&network, &none, &recorder), "those that failed have another turn");
    }

    #[test]
    fn an_index_that_was_taken_again_is_another_interface() {
        let (mut interfaces, recorder) = following(&[]);
        interfaces.follow(&wanted(&[(3, "veth1")]), &BTreeSet::new(), &recorder);
        recorder.take();
        interfaces.follow(&wanted(&[(3, "veth9")]), &BTreeSet::from([3]), &recorder);
        assert_eq!(recorder.take(), "-3 +3");
        assert_eq!(interfaces.names(), ["veth9"]);
    }

    #[test]
    fn lost_notices_detach_nothing_that_is_right() {
        let (mut interfaces, recorder) = following(&[]);
        let none = BTreeSet::new();
        interfaces.follow(&wanted(&[(3, "veth1"), (4, "veth2")]), &none, &recorder);
        recorder.take();
        interfaces.doubt();
        interfaces.follow(&wanted(&[(3, "veth1")]), &none, &recorder);
        assert_eq!(recorder.take(), "-4 +3");
    }

    #[test]
    fn what_a_former_agent_had_is_kept_look_after_look() {
        let (mut interfaces, recorder) = following(&[3, 4, 5]);
        let mut network = Network::default();
        for index in [3, 4] {
            let interface = Interface { name: format!("eth{index}"), ..Interface::default() };
            network.interfaces.insert(index, interface);
        }
        let others = wanted(&[(4, "eth4")]);
        for _ in 0..2 {
            let mut kept = Named::new();
            interfaces.keep(&mut kept, &others, &network);
            assert_eq!(kept, wanted(&[(3, "eth3")]), "5 has vanished, 4 is another class's by now");
            interfaces.follow(&kept, &BTreeSet::new(), &recorder);
        }
        assert_eq!(recorder.take(), "-4 -5 +3");
    }

    #[test]
    fn an_uplink_that_goes_down_is_one_until_it_is_something_else() {
        let (mut interfaces, recorder) = following(&[4]);
        let mut network = Network::default();
        for index in [3, 4] {
            let interface = Interface { name: format!("eth{index}"), up: index == 3, ..Interface::default() };
            network.interfaces.insert(index, interface);
        }
        let (uplink, none) = (wanted(&[(3, "eth3")]), Passed::default());
        let mut look = |mut now: Named, others: &Named, passed: &Passed, network: &Network| {
            interfaces.rest(&mut now, others, passed, network);
            interfaces.follow(&now, &passed.gone, &recorder);
            recorder.take()
        };
        assert_eq!(
            look(uplink.clone(), &wanted(&[]), &none, &network),
            "+3 +4",
            "4 was down when the agent began"
        );
        let flapped = Passed { down: [3].into(), ..Passed::default() };
        assert_eq!(look(wanted(&[]), &wanted(&[]), &flapped, &network), "", "up again, without its route");
        assert_eq!(look(wanted(&[]), &wanted(&[]), &none, &network), "");
        assert_eq!(look(uplink, &wanted(&[]), &none, &network), "", "with its route");
        assert_eq!(look(wanted(&[]), &wanted(&[]), &none, &network), "-3", "its route is taken away");
        let gone = Passed { gone: [4].into(), ..Passed::default() };
        assert_eq!(look(wanted(&[]), &wanted(&[]), &gone, &network), "-4", "another interface by now");
    }

    #[test]
    fn a_renamed_interface_may_begin_or_cease_to_be_one_of_a_pod() {
        let (mut interfaces, recorder) = following(&[]);
        let none = BTreeSet::new();
        interfaces.follow(&wanted(&[]), &none, &recorder);
        interfaces.follow(&wanted(&[(3, "veth1")]), &none, &recorder);
        interfaces.follow(&wanted(&[(3, "veth2")]), &none, &recorder);
        assert_eq!(interfaces.names(), ["veth2"]);
        interfaces.follow(&wanted(&[]), &none, &recorder);
        assert_eq!(recorder.take(), "+3 -3");
    }

    #[test]
    fn links_of_a_former_agent_are_swapped_or_removed() {
        let (mut interfaces, recorder) = following(&[3, 8]);
        interfaces.follow(&wanted(&[(3, "veth1")]), &BTreeSet::new(), &recorder);
        assert_eq!(recorder.take(), "-8 +3");
        interfaces.follow(&wanted(&[(3, "veth1")]), &BTreeSet::new(), &recorder);
        assert_eq!(recorder.take(), "");
    }

    #[test]
    fn a_failure_is_a_problem_until_it_is_none() {
        let (mut interfaces, recorder) = following(&[]);
        let none = BTreeSet::new();
        interfaces.follow(&wanted(&[(3, "veth-bad"), (4, "veth2")]), &none, &recorder);
        assert_eq!(interfaces.names(), ["veth2"]);
        assert_eq!(interfaces.problems()[0].object, "interface veth-bad");
        recorder.take();
        interfaces.follow(&wanted(&[(3, "veth-good"), (4, "veth2")]), &none, &recorder);
        assert_eq!(recorder.take(), "+3");
        assert!(interfaces.problems().is_empty());
    }
}
