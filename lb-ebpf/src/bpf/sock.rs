//! Socket calls: [`Sock`] over the contexts of the cgroup hooks, and their verdicts.

use core::ops::{Deref, DerefMut};
use core::ptr::{addr_of, addr_of_mut, null_mut};

use aya_ebpf::bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock, bpf_sock_addr};
use aya_ebpf::helpers::generated::bpf_get_current_comm as get_current_comm;
use aya_ebpf::helpers::{
    bpf_get_current_pid_tgid, bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_set_retval, bpf_sk_storage_get,
};
use aya_ebpf::programs::{SockAddrContext, SockContext};
use lb_common::{Addr4, Addr6, Address, Endpoint, Port, Proto, SockStorage};
use lb_ebpf::family::Family;
use lb_ebpf::sock::{self, Call, Sock};

use super::around::Kernel;
use super::cuts::Cuts;
use super::maps::{Maps, SOCKS};

const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;
const IPPROTO_TCP: u32 = 6;
const IPPROTO_UDP: u32 = 17;
const IPPROTO_MPTCP: u32 = 262;
const EADDRINUSE: i32 = 98;
const ECONNREFUSED: i32 = 111;
/// Verdict of a cgroup hook: go on.
const PROCEED: i32 = 1;
/// Verdict of a cgroup hook: fail, with `EPERM` unless another error is set.
const FAIL: i32 = 0;

/// What a socket remembers, in place.
pub(crate) struct Memory(*mut SockStorage);

impl Deref for Memory {
    type Target = SockStorage;

    #[inline(always)]
    fn deref(&self) -> &SockStorage {
        // SAFETY: socket storage that the helper returned; the caller of the hook holds the socket's lock.
        unsafe { &*self.0 }
    }
}

impl DerefMut for Memory {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut SockStorage {
        // SAFETY: as above.
        unsafe { &mut *self.0 }
    }
}

#[inline(always)]
fn storage(sk: *mut bpf_sock, flags: u64) -> Option<Memory> {
    let map = addr_of!(SOCKS).cast_mut().cast();
    // SAFETY: the hook's own socket.
    let storage = unsafe { bpf_sk_storage_get(map, sk.cast(), null_mut(), flags) }.cast::<SockStorage>();
    if storage.is_null() { None } else { Some(Memory(storage)) }
}

/// Writes the address of family `A` that a socket is bound to; nothing if it is IPv4's and zero.
#[inline(always)]
fn bound<A: Address>(sk: *mut bpf_sock, addr: &mut Addr6) {
    if A::FAMILY == 4 {
        // SAFETY: a field of the hook's own socket. The verifier refuses narrower loads, so the compiler must not make them.
        let word = unsafe { addr_of!((*sk).src_ip4).read_volatile() };
        if word != 0 {
            *addr = Addr4(word.to_ne_bytes()).to_mapped();
        }
    } else {
        // SAFETY: as above.
        *addr = Addr6::of_words(unsafe {
            [
                addr_of!((*sk).src_ip6[0]).read_volatile(),
                addr_of!((*sk).src_ip6[1]).read_volatile(),
                addr_of!((*sk).src_ip6[2]).read_volatile(),
                addr_of!((*sk).src_ip6[3]).read_volatile(),
            ]
        });
    }
}

/// A socket at `sock_release`.
struct Closing(*mut bpf_sock);

/// A socket at any of the hooks that know an address.
pub(crate) struct Calling(pub(crate) *mut bpf_sock_addr);

macro_rules! sock {
    ($name:ident, $sk:expr) => {
        impl Sock for $name {
            type Storage = Memory;

            #[inline(always)]
            fn cookie(&self) -> u64 {
                // SAFETY: a helper that takes the hook's context.
                unsafe { bpf_get_socket_cookie(self.0.cast()) }
            }

            #[inline(always)]
            fn netns(&self) -> u64 {
                // SAFETY: as above (Linux 5.7).
                unsafe { bpf_get_netns_cookie(self.0.cast()) }
            }

            #[inline(always)]
            fn process(&self) -> u32 {
                (bpf_get_current_pid_tgid() >> 32) as u32
            }

            #[inline(always)]
            fn name_of_thread(&self, name: &mut [u8; 16]) {
                // SAFETY: the helper writes 16 bytes, or zeros where it fails.
                unsafe { get_current_comm(name.as_mut_ptr().cast(), 16) };
            }

            #[inline(always)]
            fn bound<A: Address>(&self, addr: &mut Addr6) {
                bound::<A>($sk(self.0), addr);
            }

            #[inline(always)]
            fn storage(&self) -> Option<Memory> {
                storage($sk(self.0), 0)
            }

            #[inline(always)]
            fn make_storage(&self) -> Option<Memory> {
                storage($sk(self.0), u64::from(BPF_SK_STORAGE_GET_F_CREATE))
            }
        }
    };
}

impl Calling {
    /// The protocol of the socket, if Sluice translates it. A subflow of Multipath TCP is a TCP socket like any other.
    #[inline(always)]
    pub(super) fn proto(&self) -> Option<Proto> {
        let context = self.0;
        // SAFETY: fields of the context.
        let (kind, protocol) = unsafe {
            (addr_of!((*context).type_).read_volatile(), addr_of!((*context).protocol).read_volatile())
        };
        match (kind, protocol) {
            (SOCK_STREAM, IPPROTO_TCP | IPPROTO_MPTCP) => Some(Proto::Tcp),
            (SOCK_DGRAM, IPPROTO_UDP) => Some(Proto::Udp),
            _ => None,
        }
    }
}

/// The socket of a hook that knows an address.
#[inline(always)]
const fn called(context: *mut bpf_sock_addr) -> *mut bpf_sock {
    // SAFETY: a read of the context.
    unsafe { (*context).__bindgen_anon_1.sk }
}

sock!(Closing, core::convert::identity);
sock!(Calling, called);

/// Addresses of a family in the context of a hook.
trait InContext: Maps + Family + Cuts {
    fn read(context: *const bpf_sock_addr) -> Self;
    fn write(self, context: *mut bpf_sock_addr);
}

impl InContext for Addr4 {
    #[inline(always)]
    fn read(context: *const bpf_sock_addr) -> Self {
        // SAFETY: a field of the context. The verifier refuses narrower loads, so the compiler must not make them.
        Self(unsafe { addr_of!((*context).user_ip4).read_volatile() }.to_ne_bytes())
    }

    #[inline(always)]
    fn write(self, context: *mut bpf_sock_addr) {
        // SAFETY: as above.
        unsafe { addr_of_mut!((*context).user_ip4).write_volatile(u32::from_ne_bytes(self.0)) }
    }
}

impl InContext for Addr6 {
    #[inline(always)]
    fn read(context: *const bpf_sock_addr) -> Self {
        // SAFETY: as above.
        let words = unsafe {
            [
                addr_of!((*context).user_ip6[0]).read_volatile(),
                addr_of!((*context).user_ip6[1]).read_volatile(),
                addr_of!((*context).user_ip6[2]).read_volatile(),
                addr_of!((*context).user_ip6[3]).read_volatile(),
            ]
        };
        Self::of_words(words)
    }

    #[inline(always)]
    fn write(self, context: *mut bpf_sock_addr) {
        let [a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, d0, d1, d2, d3] = self.0;
        // SAFETY: fields of the context, each word by itself.
        unsafe {
            addr_of_mut!((*context).user_ip6[0]).write_volatile(u32::from_ne_bytes([a0, a1, a2, a3]));
            addr_of_mut!((*context).user_ip6[1]).write_volatile(u32::from_ne_bytes([b0, b1, b2, b3]));
            addr_of_mut!((*context).user_ip6[2]).write_volatile(u32::from_ne_bytes([c0, c1, c2, c3]));
            addr_of_mut!((*context).user_ip6[3]).write_volatile(u32::from_ne_bytes([d0, d1, d2, d3]));
        }
    }
}

/// One of the hooks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    /// `connect`.
    Connect,
    /// `sendmsg`.
    Sendmsg,
    /// `recvmsg`.
    Recvmsg,
    /// `getpeername`.
    Getpeername,
    /// `bind`.
    Bind,
}

/// Puts the call through the library, and its new address, if it gets one, back into the context.
#[inline(always)]
fn dispatch<A: InContext>(context: &SockAddrContext, hook: Hook, addr: A, write: impl FnOnce(A)) -> i32 {
    let context = context.sock_addr;
    let Some(proto) = Calling(context).proto() else {
        return PROCEED;
    };
    // SAFETY: a field of the context; the port is its lower half, in network order.
    let port = unsafe { addr_of!((*context).user_port).read_volatile() } as u16;
    let endpoint = &mut Endpoint::new(addr, Port(port.to_ne_bytes()));
    let (env, sock) = (&Kernel::of(context), &Calling(context));
    let call = match hook {
        Hook::Connect => sock::connect(env, sock, proto, endpoint),
        Hook::Sendmsg => sock::sendmsg(env, sock, endpoint),
        Hook::Recvmsg => sock::recvmsg(env, sock, endpoint),
        Hook::Getpeername => sock::getpeername(env, sock, endpoint),
        Hook::Bind => sock::bind(env, sock, proto, endpoint),
    };
    match call {
        Call::Leave => PROCEED,
        Call::Translate => {
            write(endpoint.addr);
            let port = u32::from(u16::from_ne_bytes(endpoint.port.0));
            // SAFETY: a field of the context.
            unsafe { addr_of_mut!((*context).user_port).write_volatile(port) };
            PROCEED
        }
        Call::Refuse => {
            let error = if hook == Hook::Bind { EADDRINUSE } else { ECONNREFUSED };
            // SAFETY: a helper that takes a number (Linux 5.18).
            unsafe { bpf_set_retval(-error) };
            FAIL
        }
    }
}

/// A hook for IPv4 sockets.
#[inline(always)]
pub(crate) fn call4(context: &SockAddrContext, hook: Hook) -> i32 {
    dispatch(context, hook, Addr4::read(context.sock_addr), |addr| {
        addr.write(context.sock_addr);
    })
}

/// A hook for IPv6 sockets, which also talk IPv4, by mapped addresses.
#[inline(always)]
pub(crate) fn call6(context: &SockAddrContext, hook: Hook) -> i32 {
    let addr = Addr6::read(context.sock_addr);
    match Addr4::from_mapped(&addr) {
        Some(addr) => dispatch(context, hook, addr, |addr| {
            addr.to_mapped().write(context.sock_addr);
        }),
        None => dispatch(context, hook, addr, |addr| addr.write(context.sock_addr)),
    }
}

/// The end of a socket.
#[inline(always)]
pub(crate) fn release(context: &SockContext) -> i32 {
    sock::release::<Addr4, _, _>(&Kernel::alone(), &Closing(context.sock));
    sock::release::<Addr6, _, _>(&Kernel::alone(), &Closing(context.sock));
    PROCEED
}
