//! Who else is on the hooks that Sluice uses.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;

use aya_obj::generated::bpf_prog_info;
use lb_common::POD_SHORTCUT;

use super::attach::{BIND_HOOKS, CGROUP_HOOKS, Class};
use super::inspect;
use super::pin::{PinDir, PinError};
use super::sys;

/// A hook of Sluice's, and all programs on it in the order in which the kernel runs them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hook {
    /// Name of Sluice's program for it.
    pub name: &'static str,
    /// The programs.
    pub programs: Vec<Attached>,
}

/// A program on a hook.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attached {
    /// The kernel's id.
    pub id: u32,
    /// Its name, cut to 15 characters by the kernel.
    pub name: String,
    /// Whether it is pinned by this datapath.
    pub ours: bool,
}

impl Hook {
    /// The foreign programs before and behind ours; `None` if ours is not there.
    #[must_use]
    pub fn around(&self) -> Option<[Vec<&Attached>; 2]> {
        // Two of ours may be on one.
        let own = |program: &Attached| {
            program.ours && (program.name == POD_SHORTCUT) == (self.name == POD_SHORTCUT)
        };
        let (before, behind) = self.programs.split_at(self.programs.iter().position(own)?);
        Some([before, behind].map(|part| part.iter().filter(|program| !program.ours).collect()))
    }
}

/// Reads hooks, and tells our programs from others'.
#[derive(Debug)]
pub struct Reader {
    ours: BTreeSet<u32>,
    /// Names of its pinned links.
    links: Vec<String>,
}

impl Reader {
    /// Learns which programs and links this datapath has pinned.
    ///
    /// # Errors
    /// A pin cannot be read.
    pub fn open(pins: &PinDir) -> Result<Self, PinError> {
        let ours = inspect::progs(pins)?.into_iter().map(|program| program.id).collect();
        Ok(Self { ours, links: pins.links()? })
    }

    /// The socket hooks as the processes in the cgroup directory `dir` meet them, those of its ancestors included.
    ///
    /// # Errors
    /// The kernel refuses to tell.
    pub fn of_cgroup(&self, dir: &Path) -> Result<Vec<Hook>, PinError> {
        let file = fs::File::open(dir).map_err(PinError::of("open", dir))?;
        // An open descriptor is never negative.
        let target = file.as_raw_fd().unsigned_abs();
        let demanded = BIND_HOOKS.iter().filter(|(name, _)| self.links.iter().any(|link| link == name));
        let hooks = CGROUP_HOOKS.iter().chain(demanded);
        let hooks = hooks.map(|(name, attach_type)| (*name, *attach_type as u32));
        self.read(target, true, hooks).map_err(PinError::of("BPF_PROG_QUERY", dir))
    }

    /// Whether the program with this id is pinned by this datapath.
    #[must_use]
    pub fn is_ours(&self, id: u32) -> bool {
        self.ours.contains(&id)
    }

    /// The tc hooks of the interface of `class`, not [`Class::Xdp`], with this index, which is called `name`.
    ///
    /// # Errors
    /// As for [`Reader::of_cgroup`]; the interface may have gone.
    pub fn of_interface(&self, index: u32, name: &str, class: Class) -> Result<Vec<Hook>, PinError> {
        let hooks = class.hooks().iter().map(|(name, attach_type, _)| (*name, *attach_type as u32));
        self.read(index, false, hooks).map_err(PinError::of("BPF_PROG_QUERY", Path::new(name)))
    }

    fn read(
        &self,
        target: u32,
        effective: bool,
        hooks: impl Iterator<Item = (&'static str, u32)>,
    ) -> io::Result<Vec<Hook>> {
        hooks
            .map(|(name, attach_type)| {
                let programs = sys::prog_query(target, attach_type, effective)?
                    .into_iter()
                    .map(|id| Attached { id, name: program_name(id), ours: self.is_ours(id) })
                    .collect();
                Ok(Hook { name, programs })
            })
            .collect()
    }
}

/// The program's name; empty if it has none or has gone meanwhile.
#[must_use]
pub fn program_name(id: u32) -> String {
    let info = sys::prog_by_id(id).and_then(|program| sys::info::<bpf_prog_info>(program.as_fd()));
    let name = info.map(|info| info.name).unwrap_or_default();
    name.iter().take_while(|byte| **byte != 0).map(|byte| char::from(byte.to_ne_bytes()[0])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_programs_stand_before_and_behind() {
        let program = |id, ours, name: &str| Attached { id, name: name.to_owned(), ours };
        let hook = |programs: &[Attached]| Hook { name: "pod_ingress", programs: programs.to_vec() };
        let (a, b) = (program(1, false, "a"), program(2, false, "b"));
        let (own, last) = (program(3, true, "pod_ingress"), program(4, true, POD_SHORTCUT));
        assert_eq!(hook(&[a.clone(), last.clone()]).around(), None);
        let all = hook(&[a.clone(), own, b.clone(), last]);
        assert_eq!(all.around(), Some([vec![&a], vec![&b]]));
    }
}
