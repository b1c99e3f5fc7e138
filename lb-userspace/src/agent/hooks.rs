//! Which programs an interface gets.

use crate::bpf::attach::{AttachError, Class};
use crate::bpf::load::Datapath;
use crate::bpf::pin::PinError;
use crate::net::interface::{Framing, Interface};
use crate::net::watch::Network;

/// What attaches to interfaces.
pub(super) trait Attach {
    /// Puts the programs of `class` on the interface, or swaps those that are there.
    fn attach(&self, class: Class, index: u32, name: &str) -> Result<(), AttachError>;
    /// Takes them off; nothing happens if there are none.
    fn detach(&self, class: Class, index: u32) -> Result<(), PinError>;
}

/// The programs, and the interfaces that they go to.
pub(super) struct Hooks<'a> {
    pub(super) datapath: &'a Datapath,
    pub(super) network: &'a Network,
}

impl Attach for Hooks<'_> {
    fn attach(&self, class: Class, index: u32, name: &str) -> Result<(), AttachError> {
        let bare = |interface: &Interface| interface.framing == Framing::Bare;
        if class == Class::Outward && self.network.interfaces.get(&index).is_some_and(bare) {
            self.datapath.attach_bare(index, name)
        } else {
            self.datapath.attach_interface(class, index, name)
        }
    }

    fn detach(&self, class: Class, index: u32) -> Result<(), PinError> {
        self.datapath.detach_interface(class, index)
    }
}
