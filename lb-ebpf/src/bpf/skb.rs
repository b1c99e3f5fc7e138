//! [`Pkt`] over a socket buffer.

use core::ptr::addr_of;

use aya_ebpf::bindings::{
    __sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM, TC_ACT_REDIRECT, TC_ACT_SHOT,
};
use aya_ebpf::helpers::{
    bpf_csum_update, bpf_l4_csum_replace, bpf_redirect, bpf_skb_change_head, bpf_skb_change_tail,
    bpf_skb_pull_data, bpf_skb_store_bytes, bpf_skb_vlan_pop,
};
use lb_common::config_flags;
use lb_ebpf::csum;
use lb_ebpf::parse::{LINK, TAGS};
use lb_ebpf::pkt::{Change, Covered, Pkt};
use lb_ebpf::route::{self, Route};
use lb_ebpf::verdict::Verdict;

use super::around::Hook;
use super::cuts::{crc32c, hardware_checksum, sum};
use super::fib;
use super::frame::{REACH, within};
use super::maps::CONFIG;

/// The kernel's `BPF_F_IPV6` (Linux 6.16), which the bindings lack: a change of IPv6 addresses and of the checksum
/// that covers them cancel out in a checksum over the whole packet (CHECKSUM_COMPLETE), and must not be applied to it.
const BPF_F_IPV6: u64 = 1 << 7;
/// `TCX_NEXT`: the next program on the hook decides. Anything else ends the chain, and a CNI's programs with it.
const TCX_NEXT: i32 = -1;
/// `pkt_type` of what is for this machine (`PACKET_HOST`, linux/if_packet.h).
const PACKET_HOST: u32 = 0;

/// A socket buffer at a tc hook.
pub(crate) struct Skb(*mut __sk_buff);

impl Skb {
    /// Carries out `verdict`.
    #[inline(always)]
    pub(crate) fn conclude(self, verdict: Verdict) -> i32 {
        match verdict {
            Verdict::Pass => TCX_NEXT,
            Verdict::Drop => TC_ACT_SHOT,
            // The helper that knows where has been called already.
            Verdict::Route => TC_ACT_REDIRECT,
            // SAFETY: a read of the context, and a helper that takes numbers only.
            Verdict::Redirect => unsafe { bpf_redirect((*self.0).ifindex, 0) as i32 },
        }
    }

    /// The same where packets have no link-layer header.
    #[inline(always)]
    pub(crate) fn conclude_bare(self, verdict: Verdict) -> i32 {
        match verdict {
            Verdict::Redirect => fib::leave(self.ifindex()),
            verdict => self.conclude(verdict),
        }
    }

    /// The EtherType that the kernel has for the packet, as it would lie in a frame.
    #[inline(always)]
    pub(crate) fn kind(&self) -> u16 {
        // SAFETY: a read of the context.
        unsafe { (*self.0).protocol as u16 }
    }

    /// [`Pkt::follow_checksum`] of a packet whose checksum may be left to the hardware: the kernel knows.
    #[inline(always)]
    pub(super) fn ask_checksum(&mut self, offset: u32, change: &Change) -> bool {
        let Change { addresses, ports, keep_zero, v6, .. } = *change;
        let Some(old) = self.load(offset) else { return false };
        let pseudo = self.adjust_checksum(offset, addresses, Covered::Pseudo, keep_zero, v6);
        // It is, by what has become of it: it does not cover the ports yet. Where the addresses change the sum by nothing,
        // that tells nothing, and the kernel is asked again.
        let owed = !csum::holds([0; 2], addresses)
            && self.load(offset).is_some_and(|new| csum::holds(new, csum::plus(old, addresses)));
        pseudo && (owed || self.adjust_checksum(offset, ports, Covered::Segment, keep_zero, v6))
    }

    /// Where `N` bytes at `offset` are, if they are there and in the linear part.
    #[inline(always)]
    fn at<const N: usize>(&self, offset: u32) -> Option<*mut [u8; N]> {
        // SAFETY: reads of the context; volatile, or the compiler leaves out a check which follows from another: of that the
        // verifier knows nothing.
        unsafe {
            let start = addr_of!((*self.0).data).read_volatile() as usize;
            let end = addr_of!((*self.0).data_end).read_volatile() as usize;
            within(start, end, offset)
        }
    }
}

impl Hook for Skb {
    type Context = __sk_buff;

    #[inline(always)]
    fn new(skb: *mut __sk_buff) -> Self {
        Self(skb)
    }

    #[inline(always)]
    fn send<A>(self, route: &Route<A>) -> bool {
        fib::send(route)
    }

    #[inline(always)]
    fn forward(mut self, interface: u32, link: [u32; 3]) -> bool {
        // SAFETY: a helper that takes numbers only.
        let redirect = || unsafe { bpf_redirect(interface, 0) as i32 };
        route::put_link(&mut self, link) && redirect() == TC_ACT_REDIRECT
    }
}

impl Pkt for Skb {
    #[inline(always)]
    fn length(&self) -> u32 {
        // SAFETY: a read of the context.
        unsafe { (*self.0).len }
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: a read of the context.
        unsafe { (*self.0).ifindex }
    }

    #[inline(always)]
    fn came_by(&self) -> u32 {
        // SAFETY: a read of the context.
        unsafe { (*self.0).ingress_ifindex }
    }

    #[inline(always)]
    fn is_for_us(&self) -> bool {
        // SAFETY: a read of the context.
        unsafe { (*self.0).pkt_type == PACKET_HOST }
    }

    #[inline(always)]
    fn is_unlabelled(&self) -> bool {
        // SAFETY: reads of the context.
        unsafe { (*self.0).vlan_present == 0 && (*self.0).mark == 0 }
    }

    #[inline(always)]
    fn segment(&self) -> u32 {
        // SAFETY: a read of the context (Linux 5.7).
        unsafe { (*self.0).gso_size }
    }

    #[inline(always)]
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        // SAFETY: N bytes of the packet.
        self.at(offset).map(|at| unsafe { *at })
    }

    #[inline(always)]
    fn store<const N: usize>(&mut self, offset: u32, bytes: &[u8; N]) -> bool {
        let Some(at) = self.at(offset) else { return false };
        // SAFETY: as above; the kernel has unshared the packet before a program began that writes to one.
        unsafe { *at = *bytes };
        true
    }

    #[inline(always)]
    fn store_alone<const N: usize>(&mut self, offset: u32, bytes: &[u8; N]) -> bool {
        let flags = u64::from(BPF_F_RECOMPUTE_CSUM);
        // SAFETY: as above.
        unsafe { bpf_skb_store_bytes(self.0.cast(), offset, bytes.as_ptr().cast(), N as u32, flags) == 0 }
    }

    #[inline(always)]
    fn adjust_checksum(
        &mut self,
        offset: u32,
        difference: u32,
        covered: Covered,
        keep_zero: bool,
        v6: bool,
    ) -> bool {
        let mut flags = 0;
        if covered == Covered::Pseudo {
            flags |= u64::from(BPF_F_PSEUDO_HDR);
            let known = CONFIG.get(0).is_some_and(|config| config.flags & config_flags::CSUM_IPV6_FLAG != 0);
            if v6 && known {
                flags |= BPF_F_IPV6;
            }
        }
        if keep_zero {
            flags |= u64::from(BPF_F_MARK_MANGLED_0);
        }
        // SAFETY: a field size of zero in the flags makes the helper take a ready difference instead of two values.
        unsafe { bpf_l4_csum_replace(self.0.cast(), offset, 0, u64::from(difference), flags) == 0 }
    }

    #[inline(always)]
    fn follow_checksum(&mut self, offset: u32, change: &Change) -> bool {
        let Change { addresses, ports, pseudo, keep_zero, v6 } = *change;
        let Some(old) = self.load(offset) else { return false };
        if keep_zero && old == [0; 2] {
            return true;
        }
        // Of a packet whose checksum is left to the hardware the field holds this sum, or the checksum would be wrong; of an
        // aggregate not all drivers have that.
        if self.segment() != 0 || csum::holds(old, pseudo) {
            let flags = u32::from(keep_zero) | u32::from(v6) << 1;
            return hardware_checksum(self.0, offset, addresses, ports, flags) != 0;
        }
        if !v6 {
            // The header's own checksum makes up for the addresses, this one is one too many.
            self.resum(!addresses);
        }
        let new = csum::apply(old, csum::add(addresses, ports));
        self.store(offset, if keep_zero && new == [0; 2] { &[0xff; 2] } else { &new })
    }

    #[inline(always)]
    fn gather(&mut self) -> bool {
        // SAFETY: reads of the context.
        let (linear, length) = unsafe { ((*self.0).data_end - (*self.0).data, self.length()) };
        let length = length.min(REACH as u32);
        // SAFETY: a helper that takes numbers only; no pointer into the packet is held across it.
        linear < length && unsafe { bpf_skb_pull_data(self.0, length) } == 0
    }

    #[inline(always)]
    fn resum(&mut self, difference: u32) {
        // SAFETY: a helper that takes numbers only. It fails where there is no such sum, which is as well.
        unsafe { bpf_csum_update(self.0.cast(), difference) };
    }

    #[inline(always)]
    fn sum(&self, at: u32, length: u32) -> u32 {
        sum(self.0, at, length)
    }

    #[inline(always)]
    fn crc32c(&self, pattern: u32, length: u32) -> u32 {
        crc32c(pattern, length)
    }

    #[inline(always)]
    fn truncate(&mut self, len: u32) -> bool {
        // SAFETY: a helper that takes numbers only; no pointer into the packet is held across it.
        self.length() <= len || unsafe { bpf_skb_change_tail(self.0.cast(), len, 0) } == 0
    }

    #[inline(always)]
    fn grow_head(&mut self, bytes: u32) -> bool {
        // SAFETY: as above.
        unsafe { bpf_skb_change_head(self.0.cast(), bytes, 0) == 0 }
    }

    #[inline(always)]
    fn plain(&mut self, network: u32) -> bool {
        // SAFETY: a read of the context.
        if network == LINK && unsafe { (*self.0).vlan_present } == 0 {
            return true;
        }
        if network == 0 {
            return self.grow_head(LINK);
        }
        for _ in 0..=TAGS {
            // SAFETY: a helper that takes the context; without a tag it does nothing.
            if unsafe { bpf_skb_vlan_pop(self.0) } != 0 {
                return false;
            }
        }
        true
    }
}
