//! Past the host stack (`--redirect-peer`): where packets may go that way, and what forbids it.

use std::collections::BTreeSet;
use std::future::pending;
use std::io;

use tracing::{info, warn};

use super::hooks::Attach;
use super::interfaces::{Interfaces, Named};
use crate::bpf::attach::Class;
use crate::bpf::hooks::{Attached, Reader};
use crate::bpf::pin::{PinDir, PinError};
use crate::net::interface::{Framing, Interface};
use crate::net::netfilter;
use crate::net::notices::Notices;
use crate::net::queue::Queues;
use crate::net::watch::Network;
use crate::status::Problem;

/// The way past the host stack.
pub(super) struct Shortcut {
    on: bool,
    interfaces: Interfaces,
    /// Interfaces whose other end is in a pod, and may be handed packets.
    peers: BTreeSet<u32>,
    /// Interfaces that are to have the program.
    wanted: Named,
    /// Those of them where other programs stand behind ours.
    misplaced: BTreeSet<u32>,
    problems: Vec<Problem>,
}

/// Word of what packets would go past, where that matters: of netfilter's rules, if the kernel has any, and of queues.
pub(super) struct Heard([Option<Notices>; 2]);

impl Heard {
    /// Waits until something may have changed; for ever where it does not matter.
    pub(super) async fn changed(&mut self) {
        let [rules, queues] = self.0.each_mut().map(|notices| async move {
            match notices {
                Some(notices) => notices.changed().await,
                None => pending().await,
            }
        });
        tokio::select! {
            () = rules => {}
            () = queues => {}
        }
    }
}

/// What else is on the way of packets.
struct Around {
    queues: Queues,
    hooks: Reader,
}

impl Shortcut {
    /// `on`: `--redirect-peer`; `interfaces` are of the class `Shortcut`.
    pub(super) fn new(on: bool, interfaces: Interfaces) -> Self {
        Self {
            on,
            interfaces,
            peers: BTreeSet::new(),
            wanted: Named::new(),
            misplaced: BTreeSet::new(),
            problems: Vec::new(),
        }
    }

    /// Begins to listen for what would make another choice. Must be called within a tokio runtime.
    pub(super) fn listen(&self) -> Heard {
        let listen = |what: &str, open: fn() -> io::Result<Notices>| {
            let told = |error: &io::Error| warn!("{what} are looked for every half minute: {error}");
            if self.on { open().inspect_err(told).ok() } else { None }
        };
        Heard([listen("rules", Notices::of_rules), listen("queues", Notices::of_queues)])
    }

    /// As [`Interfaces::doubt`].
    pub(super) fn doubt(&mut self) {
        self.interfaces.doubt();
        self.peers.clear();
    }

    /// The interfaces whose other end may be handed packets.
    pub(super) fn peers(&self) -> &BTreeSet<u32> {
        &self.peers
    }

    /// Names of the interfaces that have the program; `None`: `--redirect-peer` is off.
    pub(super) fn names(&self) -> Option<Vec<String>> {
        self.on.then(|| self.interfaces.names())
    }

    /// Why packets go through the host stack that could go past it.
    pub(super) fn problems(&self) -> Vec<Problem> {
        [self.problems.clone(), self.interfaces.problems()].concat()
    }

    /// What has vanished is nobody's peer any more.
    pub(super) fn forget(&mut self, gone: &BTreeSet<u32>) {
        self.peers.retain(|index| !gone.contains(index));
    }

    /// Finds out where the program is wanted, of the interfaces of `pods` and those that lead `outward`, and who may be handed
    /// packets. Asks the kernel for rules that packets would pass by.
    pub(super) fn choose(&mut self, network: &Network, [pods, outward]: [&Interfaces; 2], pins: &PinDir) {
        let before = std::mem::take(&mut self.problems);
        (self.peers, self.wanted, self.misplaced) = Default::default();
        if self.on {
            match forbids() {
                Some(problem) => self.problems.push(problem),
                None => match Around::look(pins) {
                    Ok(around) => self.choose_from(network, [pods, outward], &around),
                    Err(text) => self.problems.push(through(text)),
                },
            }
        }
        for problem in self.problems.iter().filter(|problem| !before.contains(problem)) {
            warn!("{problem}");
        }
        if self.problems.is_empty() && !before.is_empty() {
            info!("nothing keeps packets from going past the host stack any more");
        }
    }

    fn choose_from(&mut self, network: &Network, [pods, outward]: [&Interfaces; 2], around: &Around) {
        for (index, interface) in &network.interfaces {
            let pod = pods.serves(*index);
            if !pod && !outward.serves(*index) || interface.framing != Framing::Ethernet {
                continue;
            }
            if around.queues.ingress.contains(index) {
                let text = "an ingress queue is there, whose filters packets would pass by";
                self.problems.push(of_interface("what comes by it goes", interface, text));
                continue;
            }
            self.wanted.insert(*index, interface.name.clone());
            let behind = around.programs(*index, interface, Class::Shortcut, 0).unwrap_or_default();
            if self.interfaces.serves(*index) && behind.last().is_some_and(|last| !last.ours) {
                self.misplaced.insert(*index);
            }
            if !pod || !interface.peer_elsewhere {
                continue;
            }
            match around.forbids(*index, interface) {
                Some(text) => self.problems.push(of_interface("what is for its pod goes", interface, &text)),
                None => drop(self.peers.insert(*index)),
            }
        }
    }

    /// Takes the program to where it has been chosen for, behind all others, and away from elsewhere; true if another call has
    /// more to do. `gone` as for [`Interfaces::follow`]. Blocks.
    pub(super) fn follow(&mut self, gone: &BTreeSet<u32>, attach: &impl Attach) -> bool {
        let anew = gone | &self.misplaced;
        self.interfaces.follow(&self.wanted, &anew, attach)
    }
}

impl Around {
    fn look(pins: &PinDir) -> Result<Self, String> {
        let queues = Queues::list().map_err(|error| format!("list queues: {error}"))?;
        let hooks = Reader::open(pins).map_err(|error| error.to_string())?;
        Ok(Self { queues, hooks })
    }

    /// The programs on hook number `hook` of `class`.
    fn programs(
        &self,
        index: u32,
        interface: &Interface,
        class: Class,
        hook: usize,
    ) -> Result<Vec<Attached>, PinError> {
        let hooks = self.hooks.of_interface(index, &interface.name, class)?;
        Ok(hooks.into_iter().nth(hook).map(|hook| hook.programs).unwrap_or_default())
    }

    /// What else than ours decides about packets on their way out to a pod.
    fn forbids(&self, index: u32, interface: &Interface) -> Option<String> {
        if self.queues.any.contains(&index) {
            return Some("a queue is there, which packets would not pass".to_owned());
        }
        let out = match self.programs(index, interface, Class::Pods, 1) {
            Ok(out) => out,
            Err(error) => return Some(error.to_string()),
        };
        let foreign = out.into_iter().find(|program| !program.ours)?;
        Some(format!(
            "the program {} (id {}) is at its egress, which packets would not pass",
            foreign.name, foreign.id
        ))
    }
}

/// What forbids it everywhere.
fn forbids() -> Option<Problem> {
    match netfilter::deciding() {
        Ok(chains) => chains.first().map(|first| {
            let more = match chains.len() {
                1 => String::new(),
                n => format!(", and {} more", n - 1),
            };
            through(format!(
                "packets that go past the host stack would not be asked by its rules: {first}{more}"
            ))
        }),
        Err(error) => Some(through(format!("netfilter's rules cannot be looked for: {error}"))),
    }
}

fn through(text: String) -> Problem {
    Problem::new("--redirect-peer", format!("all packets go through the host stack: {text}"))
}

fn of_interface(what: &str, interface: &Interface, why: &str) -> Problem {
    Problem::new(format!("interface {}", interface.name), format!("{what} through the host stack: {why}"))
}
