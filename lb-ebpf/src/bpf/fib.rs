//! The node's routes, asked of the kernel.

use core::ffi::c_void;
use core::mem::size_of;
use core::ptr::null_mut;

use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_NO_SRC_ADDR,
    BPF_FIB_LKUP_RET_SUCCESS, BPF_FIB_LOOKUP_SRC, TC_ACT_REDIRECT, bpf_fib_lookup as Query,
    bpf_fib_lookup__bindgen_ty_1 as Length, bpf_fib_lookup__bindgen_ty_2 as Class,
    bpf_fib_lookup__bindgen_ty_3 as Source, bpf_fib_lookup__bindgen_ty_4 as Destination,
    bpf_fib_lookup__bindgen_ty_5 as Table, bpf_redir_neigh as NextHop,
    bpf_redir_neigh__bindgen_ty_1 as NextAddr,
};
use aya_ebpf::helpers::{bpf_fib_lookup, bpf_redirect_neigh, bpf_redirect_peer};
use lb_common::{Addr4, Addr6, Address, FlowKey};
use lb_ebpf::route::{Ask, Route, Way};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const EINVAL: i64 = -22;

/// The kernel's number of a family.
#[inline(always)]
const fn family<A: Address>() -> u8 {
    if A::FAMILY == 4 { AF_INET } else { AF_INET6 }
}

/// The four words that the kernel's structures have for an address; an IPv4 one stands in the first.
#[inline(always)]
fn words<A: Address>(addr: &A) -> [u32; 4] {
    let [a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, d0, d1, d2, d3] = addr.to_mapped().0;
    let last = u32::from_ne_bytes([d0, d1, d2, d3]);
    if A::FAMILY == 4 {
        return [last, 0, 0, 0];
    }
    [
        u32::from_ne_bytes([a0, a1, a2, a3]),
        u32::from_ne_bytes([b0, b1, b2, b3]),
        u32::from_ne_bytes([c0, c1, c2, c3]),
        last,
    ]
}

/// The address in such words, an IPv4 one mapped.
#[inline(always)]
fn address([a, b, c, d]: [u32; 4], family: u8) -> Addr6 {
    if family == AF_INET {
        return Addr4(a.to_ne_bytes()).to_mapped();
    }
    let [[a0, a1, a2, a3], [b0, b1, b2, b3], [c0, c1, c2, c3], [d0, d1, d2, d3]] =
        [a.to_ne_bytes(), b.to_ne_bytes(), c.to_ne_bytes(), d.to_ne_bytes()];
    Addr6([a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, d0, d1, d2, d3])
}

/// The way of the packet whose key is `key`, if it goes to `to`; it is that of the program's `context`, and came by
/// `interface`.
#[inline(always)]
pub(super) fn lookup<A: Address>(
    context: *mut c_void,
    interface: u32,
    key: &FlowKey<A>,
    to: &A,
    ask: Ask,
) -> Route<A> {
    let (length, flags) = match ask {
        Ask::Way(length) => (length, 0),
        // Not zero, which would have the packet itself compared with the device.
        Ask::Source => (1, BPF_FIB_LOOKUP_SRC),
    };
    let mut query = Query {
        family: family::<A>(),
        l4_protocol: key.proto,
        sport: u16::from_ne_bytes(key.tuple.sport.0),
        dport: u16::from_ne_bytes(key.tuple.dport.0),
        __bindgen_anon_1: Length { tot_len: length },
        ifindex: interface,
        __bindgen_anon_2: Class { flowinfo: 0 },
        __bindgen_anon_3: Source { ipv6_src: words(&key.tuple.src) },
        __bindgen_anon_4: Destination { ipv6_dst: words(to) },
        __bindgen_anon_5: Table { tbid: 0 },
        smac: [0; 6],
        dmac: [0; 6],
    };
    let size = size_of::<Query>() as i32;
    // SAFETY: the packet's own context, and a query of the size that is given.
    let mut answer = unsafe { bpf_fib_lookup(context, &raw mut query, size, flags) };
    let mut sourced = flags != 0;
    if sourced && answer == EINVAL {
        // Linux before 6.7 does not tell the source.
        sourced = false;
        // SAFETY: as above.
        answer = unsafe { bpf_fib_lookup(context, &raw mut query, size, 0) };
    }
    let answer = answer as u32;
    let way = match answer {
        BPF_FIB_LKUP_RET_SUCCESS | BPF_FIB_LKUP_RET_NO_NEIGH | BPF_FIB_LKUP_RET_NO_SRC_ADDR => Way::Out,
        BPF_FIB_LKUP_RET_FRAG_NEEDED => Way::TooBig,
        _ => Way::None,
    };
    sourced &= answer != BPF_FIB_LKUP_RET_NO_SRC_ADDR;
    // SAFETY: whole fields, which were filled in above and may have been changed by the kernel; any bits are valid.
    let (mtu, source, next) = unsafe {
        (query.__bindgen_anon_1.mtu_result, query.__bindgen_anon_3.ipv6_src, query.__bindgen_anon_4.ipv6_dst)
    };
    let source = if sourced { address(source, family::<A>()) } else { A::default().to_mapped() };
    let ([d0, d1, d2, d3, d4, d5], [s0, s1, s2, s3, s4, s5]) = (query.dmac, query.smac);
    Route {
        way,
        interface: query.ifindex,
        mtu: u32::from(mtu),
        source: A::from_mapped(&source).unwrap_or_default(),
        // An IPv4 route may have an IPv6 next hop.
        next: address(next, query.family),
        bare: false,
        // The kernel fills both in with success alone.
        link: [
            u32::from_ne_bytes([d0, d1, d2, d3]),
            u32::from_ne_bytes([d4, d5, s0, s1]),
            u32::from_ne_bytes([s2, s3, s4, s5]),
        ],
    }
}

/// Notes where the packet goes when the program says that it is redirected; false if the kernel refuses.
#[inline(always)]
pub(super) fn send<A>(route: &Route<A>) -> bool {
    if route.bare {
        return leave(route.interface) == TC_ACT_REDIRECT;
    }
    let (family, next) = match Addr4::from_mapped(&route.next) {
        Some(next) => (AF_INET, words(&next)),
        None => (AF_INET6, words(&route.next)),
    };
    let mut next = NextHop { nh_family: u32::from(family), __bindgen_anon_1: NextAddr { ipv6_nh: next } };
    let size = size_of::<NextHop>() as i32;
    // SAFETY: a next hop of the size that is given (Linux 5.10).
    unsafe { bpf_redirect_neigh(route.interface, &raw mut next, size, 0) as i32 == TC_ACT_REDIRECT }
}

/// Notes that the packet goes to the other end of the pair that `interface` is one end of, when the program says that it is
/// redirected; false if the kernel refuses. It is dropped if that end is not in another network namespace.
#[inline(always)]
pub(super) fn deliver(interface: u32) -> bool {
    // SAFETY: a helper that takes numbers only (Linux 5.10).
    unsafe { bpf_redirect_peer(interface, 0) as i32 == TC_ACT_REDIRECT }
}

/// Sends the packet out of an interface where packets have no link-layer header, by the route that the kernel finds there for
/// its new addresses, and leaves with it: a tunnel without one other end (IP in IP) asks the packet's route who that is. A
/// program ends with what this returns.
#[inline(always)]
pub(super) fn leave(interface: u32) -> i32 {
    // SAFETY: a helper that takes numbers only, if no next hop is given (Linux 5.10).
    unsafe { bpf_redirect_neigh(interface, null_mut(), 0, 0) as i32 }
}
