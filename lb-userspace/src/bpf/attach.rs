//! Programs attached by pinned links: they stay when the agent dies, and a new agent swaps programs in place.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use aya_obj::generated::bpf_attach_type::{self, *};
use lb_common::{POD_SHORTCUT, Point, UPLINK_XDP};

use super::inspect::Target;
use super::load::{Datapath, LoadError};
use super::pin::PinError;
use super::sys;

/// Programs of the cgroup hooks; the link has the program's name.
pub(super) const CGROUP_HOOKS: [(&str, bpf_attach_type); 9] = [
    ("connect4", BPF_CGROUP_INET4_CONNECT),
    ("connect6", BPF_CGROUP_INET6_CONNECT),
    ("sendmsg4", BPF_CGROUP_UDP4_SENDMSG),
    ("sendmsg6", BPF_CGROUP_UDP6_SENDMSG),
    ("recvmsg4", BPF_CGROUP_UDP4_RECVMSG),
    ("recvmsg6", BPF_CGROUP_UDP6_RECVMSG),
    ("getpeername4", BPF_CGROUP_INET4_GETPEERNAME),
    ("getpeername6", BPF_CGROUP_INET6_GETPEERNAME),
    ("sock_release", BPF_CGROUP_INET_SOCK_RELEASE),
];

/// The same of those that are there on demand only.
pub(super) const BIND_HOOKS: [(&str, bpf_attach_type); 2] =
    [("bind4", BPF_CGROUP_INET4_BIND), ("bind6", BPF_CGROUP_INET6_BIND)];

/// Programs of a pod's interface; the link's name is the program's and the interface's index. First on the way in and
/// last on the way out: a CNI's own programs see the addresses that pods have.
pub(super) const POD_HOOKS: [(&str, bpf_attach_type, u32); 2] = hooks(Point::PodIngress, Point::PodEgress);

/// Programs of an uplink or overlay, in the same order, for the same reason.
pub(super) const OUTWARD_HOOKS: [(&str, bpf_attach_type, u32); 2] =
    hooks(Point::OutwardIngress, Point::OutwardEgress);

/// The program that an uplink has besides, in native mode alone: the other mode works where tc does, later and slower.
pub(super) const XDP_HOOKS: [(&str, bpf_attach_type, u32); 1] = [(UPLINK_XDP, BPF_XDP, sys::NATIVE)];

/// The program that comes behind all others at ingress of both, with `--redirect-peer`: what passes it goes past the host
/// stack.
pub(super) const SHORTCUT_HOOKS: [(&str, bpf_attach_type, u32); 1] =
    [(POD_SHORTCUT, BPF_TCX_INGRESS, sys::LAST)];

/// The programs of two points of an interface, and where they stand among others.
const fn hooks(ingress: Point, egress: Point) -> [(&'static str, bpf_attach_type, u32); 2] {
    [(ingress.program(), BPF_TCX_INGRESS, sys::FIRST), (egress.program(), BPF_TCX_EGRESS, sys::LAST)]
}

/// What an interface is to the node, and which programs it has for that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Pods are behind it.
    Pods,
    /// Other nodes are behind it: an uplink or overlay.
    Outward,
    /// It is of the class before, an uplink, and its driver runs XDP.
    Xdp,
    /// It is of one of the first two, has Ethernet headers, and what comes by it for pods may go past the host stack.
    Shortcut,
}

impl Class {
    /// All classes.
    pub const ALL: [Self; 4] = [Self::Pods, Self::Outward, Self::Xdp, Self::Shortcut];

    /// The class of the interface that the pinned link `name` attaches to; `None` for a link of another kind.
    #[must_use]
    pub fn of_link(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| linked_interface(*class, name).is_some())
    }

    /// The programs of its interfaces.
    pub(super) fn hooks(self) -> &'static [(&'static str, bpf_attach_type, u32)] {
        match self {
            Self::Pods => &POD_HOOKS,
            Self::Outward => &OUTWARD_HOOKS,
            Self::Xdp => &XDP_HOOKS,
            Self::Shortcut => &SHORTCUT_HOOKS,
        }
    }

    fn target(self, index: u32) -> Target {
        match self {
            Self::Pods | Self::Outward | Self::Shortcut => Target::Interface(index),
            Self::Xdp => Target::Driver(index),
        }
    }
}

/// Why a program is not attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The kernel refused a call.
    #[error("{call} for {program} on {target}: {source}")]
    Syscall {
        /// Name of the call.
        call: &'static str,
        /// Name of the program.
        program: &'static str,
        /// The cgroup or interface.
        target: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The cgroup cannot be opened.
    #[error("open the cgroup {path}: {source}", path = .path.display())]
    Cgroup {
        /// The directory.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The object lacks the program.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A pin cannot be made or removed.
    #[error(transparent)]
    Pin(#[from] PinError),
}

impl AttachError {
    /// Whether the interface went away before or while the program was being attached.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self.errno(), Some(libc::ENODEV | libc::ENXIO | libc::ENOLINK))
    }

    /// What the kernel answered, if it refused a call.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Syscall { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

impl Datapath {
    /// Attaches the socket hooks to the cgroup directory `path`, those of `bind` only if `binds` says so: else they are
    /// detached. Links that are there get the new programs without a gap; a link to another cgroup is replaced.
    ///
    /// # Errors
    /// The first hook that the kernel refused; those before it stay attached.
    pub fn attach_cgroup(&self, path: &Path, binds: bool) -> Result<(), AttachError> {
        let failed = |source| AttachError::Cgroup { path: path.to_owned(), source };
        let dir = fs::File::open(path).map_err(failed)?;
        let id = dir.metadata().map_err(failed)?.ino();
        // An open descriptor is never negative.
        let fd = dir.as_raw_fd().unsigned_abs();
        let wanted = if binds { BIND_HOOKS.as_slice() } else { &[] };
        for &(program, attach_type) in CGROUP_HOOKS.iter().chain(wanted) {
            let link = Link {
                name: program.to_owned(),
                program,
                attach_type,
                flags: 0,
                target: Target::Cgroup(id),
                shown: path.display().to_string(),
            };
            self.attach(&link, fd)?;
        }
        if !binds {
            for (program, _) in BIND_HOOKS {
                remove(&self.pins().link(program))?;
            }
        }
        Ok(())
    }

    /// Attaches the programs of `class` to the interface with this index, as [`Datapath::attach_cgroup`] does. `name` is for
    /// messages only.
    ///
    /// # Errors
    /// [`AttachError::is_gone`] if the interface has vanished meanwhile.
    pub fn attach_interface(&self, class: Class, index: u32, name: &str) -> Result<(), AttachError> {
        self.attach_hooks(class, index, name, |program| program)
    }

    /// The same to one of [`Class::Outward`] where packets have no link-layer header: what is pinned has the same names.
    ///
    /// # Errors
    /// As for [`Datapath::attach_interface`].
    pub fn attach_bare(&self, index: u32, name: &str) -> Result<(), AttachError> {
        self.attach_hooks(Class::Outward, index, name, |program| {
            let stands_for = |point: &Point| point.program() == program;
            Point::ALL.into_iter().find(stands_for).map_or(program, Point::bare_program)
        })
    }

    fn attach_hooks(
        &self,
        class: Class,
        index: u32,
        name: &str,
        program_of: impl Fn(&'static str) -> &'static str,
    ) -> Result<(), AttachError> {
        for &(hook, attach_type, flags) in class.hooks() {
            let link = Link {
                name: format!("{hook}-{index}"),
                program: program_of(hook),
                attach_type,
                flags,
                target: class.target(index),
                shown: name.to_owned(),
            };
            self.attach(&link, index)?;
        }
        Ok(())
    }

    /// Detaches the programs of `class` from the interface with this index; nothing happens if they are not attached.
    ///
    /// # Errors
    /// A pin cannot be removed.
    pub fn detach_interface(&self, class: Class, index: u32) -> Result<(), PinError> {
        for (program, ..) in class.hooks() {
            remove(&self.pins().link(&format!("{program}-{index}")))?;
        }
        Ok(())
    }

    /// Indices of the interfaces that have pinned links of `class`, of this agent or the one before it.
    ///
    /// # Errors
    /// The directory of links cannot be read.
    pub fn linked_interfaces(&self, class: Class) -> Result<BTreeSet<u32>, PinError> {
        let names = self.pins().links()?;
        Ok(names.iter().filter_map(|name| linked_interface(class, name)).collect())
    }

    /// Swaps the program in a pinned link to the right target, or else makes and pins a new link.
    fn attach(&self, link: &Link, fd_or_index: u32) -> Result<(), AttachError> {
        let program = self.program(link.program)?;
        let path = self.pins().link(&link.name);
        if let Some(pinned) = open(&path)? {
            if sys::info(pinned.as_fd()).is_ok_and(|info| Target::of(&info) == link.target)
                && sys::link_update(pinned.as_fd(), program).is_ok()
            {
                return Ok(());
            }
            remove(&path)?;
        }
        let new = sys::link_create(program, fd_or_index, link.attach_type as u32, link.flags)
            .map_err(|source| link.syscall("BPF_LINK_CREATE", source))?;
        sys::obj_pin(new.as_fd(), &path).map_err(PinError::of("BPF_OBJ_PIN", &path))?;
        Ok(())
    }
}

/// One attachment.
struct Link {
    name: String,
    program: &'static str,
    attach_type: bpf_attach_type,
    flags: u32,
    target: Target,
    shown: String,
}

impl Link {
    fn syscall(&self, call: &'static str, source: io::Error) -> AttachError {
        AttachError::Syscall { call, program: self.program, target: self.shown.clone(), source }
    }
}

/// The interface index in the name of a link to an interface of `class`.
fn linked_interface(class: Class, name: &str) -> Option<u32> {
    let (program, index) = name.rsplit_once('-')?;
    let known = class.hooks().iter().any(|hook| hook.0 == program);
    known.then(|| index.parse().ok())?
}

fn open(path: &Path) -> Result<Option<OwnedFd>, PinError> {
    match sys::obj_get(path) {
        Ok(link) => Ok(Some(link)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(PinError::of("BPF_OBJ_GET", path)(error)),
    }
}

/// Detaches the link pinned at `path`, whoever else has it open, and unpins it.
pub(super) fn remove(path: &Path) -> Result<(), PinError> {
    let Some(link) = open(path)? else { return Ok(()) };
    // ENOLINK: what it was attached to is gone.
    match sys::link_detach(link.as_fd()) {
        Err(error) if error.raw_os_error() != Some(libc::ENOLINK) => {
            return Err(PinError::of("BPF_LINK_DETACH", path)(error));
        }
        _ => {}
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(PinError::of("unlink", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_interfaces_are_told_by_their_names() {
        let pods = |name| linked_interface(Class::Pods, name);
        assert_eq!(pods("pod_ingress-12"), Some(12));
        assert_eq!(pods("pod_egress-4294967295"), Some(u32::MAX));
        for other in
            ["connect4", "sock_release", "pod_ingress", "pod_ingress-", "pod_ingress-x", "outward_ingress-3"]
        {
            assert_eq!(pods(other), None, "{other}");
        }
        assert_eq!(linked_interface(Class::Outward, "outward_ingress-3"), Some(3));
        assert_eq!(linked_interface(Class::Outward, "pod_ingress-3"), None);
        assert_eq!(Class::of_link("pod_egress-3"), Some(Class::Pods));
        assert_eq!(Class::of_link("outward_ingress-3"), Some(Class::Outward));
        assert_eq!(Class::of_link("uplink_xdp-3"), Some(Class::Xdp));
        assert_eq!(Class::of_link("pod_shortcut-3"), Some(Class::Shortcut));
        assert_eq!(Class::of_link("connect4"), None);
    }
}
