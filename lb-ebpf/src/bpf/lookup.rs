//! The host's sockets, asked of the kernel.

use core::ffi::c_void;
use core::mem::size_of;
use core::ptr::addr_of;

use aya_ebpf::bindings::{BPF_F_CURRENT_NETNS, bpf_sock_tuple};
use aya_ebpf::helpers::{bpf_sk_lookup_udp, bpf_sk_release, bpf_skc_lookup_tcp};
use lb_common::{Address, FlowKey, Proto, Tuple};
use lb_ebpf::env::Sockets;

/// `TCP_ESTABLISHED`, which a connected UDP socket is as well.
const ESTABLISHED: u32 = 1;
/// `TCP_LISTEN`.
const LISTEN: u32 = 10;

/// Whether one of these `sockets` is in the namespace of the packet's interface, at the destination of `key`.
#[inline(always)]
pub(super) fn has<A: Address>(context: *mut c_void, key: &FlowKey<A>, sockets: Sockets) -> bool {
    // Addresses, then ports, the sender's first: as the kernel wants them, whose size tells the family.
    let tuple = addr_of!(key.tuple).cast_mut().cast::<bpf_sock_tuple>();
    let size = size_of::<Tuple<A>>() as u32;
    let here = BPF_F_CURRENT_NETNS as u64;
    let tcp = key.proto == Proto::Tcp as u8;
    if !tcp && key.proto != Proto::Udp as u8 {
        return false;
    }
    // SAFETY: the program's context, and a tuple of this size, which the helper only reads.
    let sock = unsafe {
        if tcp {
            bpf_skc_lookup_tcp(context, tuple, size, here, 0)
        } else {
            bpf_sk_lookup_udp(context, tuple, size, here, 0)
        }
    };
    if sock.is_null() {
        return false;
    }
    // SAFETY: a field of a socket that the helper has returned, in its own width; then it is given back.
    let state = unsafe {
        let state = addr_of!((*sock).state).read_volatile();
        bpf_sk_release(sock.cast());
        state
    };
    if tcp { state != LISTEN } else { sockets == Sockets::Receiving || state == ESTABLISHED }
}
