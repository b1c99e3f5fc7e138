//! [`Pkt`] over a frame as a driver hands it to XDP.

use core::hint::assert_unchecked;
use core::ptr::addr_of;

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::helpers::{bpf_redirect, bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len};
use lb_ebpf::csum;
use lb_ebpf::parse::LINK;
use lb_ebpf::pkt::{Change, Covered, Pkt};
use lb_ebpf::route::{self, Route};
use lb_ebpf::verdict::Verdict;

use super::around::Hook;
use super::cuts::{crc32c, frame_sum};

/// Where headers end at the latest. The verifier wants a bound for what is added to the start of a packet.
pub(super) const REACH: usize = 1024;

/// Where `N` bytes at `offset` are in a packet between `start` and `end`, if they are there; of one byte, if there is
/// another behind it: a comparison for "not beyond", which the compiler makes of it, tells the verifier nothing. No
/// header ends with a byte that is read by itself.
///
/// The compiler takes bytes apart of which it does not know how they are aligned, so it is told that words lie as words do: by
/// four, if whole words are asked for, else by two. Where that is not so, since drivers put frames where they like, machines
/// bear it, or the verifier refuses the program.
#[inline(always)]
pub(super) fn within<const N: usize>(start: usize, end: usize, offset: u32) -> Option<*mut [u8; N]> {
    let offset = offset as usize;
    if offset > REACH - N {
        return None;
    }
    let at = start + offset;
    if at + N.max(2) > end {
        return None;
    }
    let word = const {
        match N % 4 {
            0 => 4,
            2 => 2,
            _ => 1,
        }
    };
    // SAFETY: of this nothing follows but how wide loads and stores are: the compiler knows no other pointer to these bytes.
    unsafe { assert_unchecked(at.is_multiple_of(word)) };
    Some(at as *mut [u8; N])
}

/// A frame in one piece, before it is a socket buffer. Its checksums are complete if it comes from a
/// wire; of a veth whoever set it up sees to that.
pub(crate) struct Frame(*mut xdp_md);

impl Frame {
    /// Whether all of it lies side by side; not so of a long one, whose rest lies in other pages.
    #[inline(always)]
    pub(crate) fn is_whole(&self) -> bool {
        // SAFETY: a helper that takes the context (Linux 5.18).
        u64::from(self.length()) == unsafe { bpf_xdp_get_buff_len(self.0) }
    }

    /// Carries out `verdict`.
    #[inline(always)]
    pub(crate) fn conclude(&self, verdict: Verdict) -> u32 {
        match verdict {
            Verdict::Pass => xdp_action::XDP_PASS,
            Verdict::Drop => xdp_action::XDP_DROP,
            Verdict::Redirect => xdp_action::XDP_TX,
            // The helper that knows where has been called already.
            Verdict::Route => xdp_action::XDP_REDIRECT,
        }
    }

    /// Where `N` bytes at `offset` are, if they are there.
    #[inline(always)]
    fn at<const N: usize>(&self, offset: u32) -> Option<*mut [u8; N]> {
        // Volatile, or the compiler leaves out a check which follows from another: of that the verifier knows nothing.
        // SAFETY: reads of the context.
        let (start, end) = unsafe {
            (
                addr_of!((*self.0).data).read_volatile() as usize,
                addr_of!((*self.0).data_end).read_volatile() as usize,
            )
        };
        within(start, end, offset)
    }
}

impl Hook for Frame {
    type Context = xdp_md;

    #[inline(always)]
    fn new(context: *mut xdp_md) -> Self {
        Self(context)
    }

    #[inline(always)]
    fn send<A>(self, route: &Route<A>) -> bool {
        self.forward(route.interface, route.link)
    }

    #[inline(always)]
    fn forward(mut self, interface: u32, link: [u32; 3]) -> bool {
        // SAFETY: a helper that takes numbers only.
        let redirect = || unsafe { bpf_redirect(interface, 0) as u32 };
        (interface == self.ifindex() || redirect() == xdp_action::XDP_REDIRECT)
            && route::put_link(&mut self, link)
    }
}

impl Pkt for Frame {
    #[inline(always)]
    fn length(&self) -> u32 {
        // SAFETY: reads of the context.
        unsafe { (*self.0).data_end - (*self.0).data }
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: a read of the context.
        unsafe { (*self.0).ingress_ifindex }
    }

    #[inline(always)]
    fn came_by(&self) -> u32 {
        self.ifindex()
    }

    #[inline(always)]
    fn is_for_us(&self) -> bool {
        // The driver does not say. Who asks compares addresses.
        true
    }

    #[inline(always)]
    fn segment(&self) -> u32 {
        0
    }

    #[inline(always)]
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        // SAFETY: N bytes of the packet, which nobody else has.
        self.at(offset).map(|at| unsafe { *at })
    }

    #[inline(always)]
    fn store<const N: usize>(&mut self, offset: u32, bytes: &[u8; N]) -> bool {
        let Some(at) = self.at(offset) else { return false };
        // SAFETY: as above.
        unsafe { *at = *bytes };
        true
    }

    #[inline(always)]
    fn store_alone<const N: usize>(&mut self, offset: u32, bytes: &[u8; N]) -> bool {
        self.store(offset, bytes)
    }

    #[inline(always)]
    fn adjust_checksum(
        &mut self,
        offset: u32,
        difference: u32,
        _covered: Covered,
        keep_zero: bool,
        _v6: bool,
    ) -> bool {
        csum::adjust(self, offset, difference, keep_zero)
    }

    #[inline(always)]
    fn follow_checksum(&mut self, offset: u32, change: &Change) -> bool {
        csum::adjust(self, offset, csum::add(change.addresses, change.ports), change.keep_zero)
    }

    #[inline(always)]
    fn resum(&mut self, _difference: u32) {}

    #[inline(always)]
    fn sum(&self, at: u32, length: u32) -> u32 {
        frame_sum(self.0, at, length)
    }

    #[inline(always)]
    fn crc32c(&self, pattern: u32, length: u32) -> u32 {
        crc32c(pattern, length)
    }

    #[inline(always)]
    fn truncate(&mut self, len: u32) -> bool {
        let over = self.length().saturating_sub(len);
        // SAFETY: a helper that takes numbers only; no pointer into the packet is held across it.
        over == 0 || unsafe { bpf_xdp_adjust_tail(self.0, -(over as i32)) } == 0
    }

    #[inline(always)]
    fn grow_head(&mut self, bytes: u32) -> bool {
        // SAFETY: as above.
        unsafe { bpf_xdp_adjust_head(self.0, -(bytes as i32)) == 0 }
    }

    #[inline(always)]
    fn plain(&mut self, network: u32) -> bool {
        let tags = network.saturating_sub(LINK);
        if tags == 0 {
            return true;
        }
        // The type of what follows stands behind the tags already.
        let Some(addresses) = self.load::<12>(0) else { return false };
        // SAFETY: as above.
        self.store(tags, &addresses) && unsafe { bpf_xdp_adjust_head(self.0, tags as i32) == 0 }
    }
}
