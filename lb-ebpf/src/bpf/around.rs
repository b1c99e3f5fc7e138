//! Where in the kernel a program is.

use core::ffi::c_void;
use core::marker::PhantomData;
use core::ptr::null_mut;

use lb_ebpf::pkt::Pkt;
use lb_ebpf::route::Route;

use super::frame::Frame;
use super::skb::Skb;

/// A place in the kernel where packets of this kind come by.
pub(crate) trait Hook: Pkt {
    /// The context of programs there.
    type Context;
    /// The packet of the program with this context.
    fn new(context: *mut Self::Context) -> Self;
    /// [`lb_ebpf::env::Tables::send`].
    fn send<A>(self, route: &Route<A>) -> bool;
    /// [`lb_ebpf::env::Tables::forward`].
    fn forward(self, interface: u32, link: [u32; 3]) -> bool;
}

/// The kernel as the datapath sees it around packets of one kind.
pub(crate) struct Around<P> {
    /// The context of the program; null where nothing asks for it.
    pub(super) context: *mut c_void,
    kind: PhantomData<P>,
}

/// The kernel around socket buffers, and where there is no packet.
pub(crate) type Kernel = Around<Skb>;
/// The kernel around frames.
pub(crate) type Driver = Around<Frame>;

impl<P> Around<P> {
    /// In a program with this context.
    #[inline(always)]
    pub(crate) const fn of<C>(context: *mut C) -> Self {
        Self { context: context.cast(), kind: PhantomData }
    }

    /// Where nothing asks for the context.
    #[inline(always)]
    pub(crate) const fn alone() -> Self {
        Self { context: null_mut(), kind: PhantomData }
    }

    /// The context, as a program of its kind sees it.
    #[inline(always)]
    pub(crate) const fn context<C>(&self) -> *mut C {
        self.context.cast()
    }
}
