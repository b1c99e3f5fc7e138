//! What the socket hooks remember.

use crate::abi::shared;
use crate::addr::{Addr4, Addr6, Address, Endpoint, Port};

/// Which way a [`SockUdpKey`] translates.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SockUdpRole {
    /// From a Service address to the backend that the socket uses for it.
    ToBackend = 0,
    /// From a backend to the Service address that the socket knows it by.
    ToService = 1,
}

/// Key of the host's UDP socket tables: 16 bytes for IPv4, 28 for IPv6.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct SockUdpKey<A> {
    /// The socket's cookie, as two words so that the key needs no padding.
    pub cookie: [u32; 2],
    /// Service or backend address, network order.
    pub addr: A,
    /// Its port, network order.
    pub port: Port,
    /// A [`SockUdpRole`].
    pub role: u8,
    /// Zero.
    pub pad: u8,
}

impl<A: Address> SockUdpKey<A> {
    /// The key of `endpoint`, in `role`, for the socket with `cookie`.
    #[must_use]
    #[inline(always)]
    pub const fn new(cookie: u64, endpoint: &Endpoint<A>, role: SockUdpRole) -> Self {
        let [a, b, c, d, e, f, g, h] = cookie.to_ne_bytes();
        let cookie = [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])];
        Self { cookie, addr: endpoint.addr, port: endpoint.port, role: role as u8, pad: 0 }
    }

    /// The socket's cookie.
    #[must_use]
    #[inline(always)]
    pub const fn cookie(&self) -> u64 {
        let [[a, b, c, d], [e, f, g, h]] = [self.cookie[0].to_ne_bytes(), self.cookie[1].to_ne_bytes()];
        u64::from_ne_bytes([a, b, c, d, e, f, g, h])
    }
}

/// Value of the host's UDP socket tables: 24 bytes for IPv4, 48 for IPv6.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SockUdpValue<A> {
    /// The backend or the Service address, depending on the key's role.
    pub peer: Endpoint<A>,
    /// `ToBackend` only: the Service address that this socket used before this one; port 0 ends the chain.
    pub next: Endpoint<A>,
    /// Backend id.
    pub backend: u32,
    /// Its generation.
    pub generation: u32,
}

/// Socket storage of a translated socket, 68 bytes. Goes with the socket.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SockStorage {
    /// The Service address that `connect` was called with (IPv4: mapped); port 0 if none.
    pub peer: Endpoint<Addr6>,
    /// The backend that it was connected to instead: tells whether `peer` still describes the socket.
    pub backend: Endpoint<Addr6>,
    /// Head of the chain of IPv4 `ToBackend` entries of a UDP socket.
    pub udp4: Endpoint<Addr4>,
    /// Head of the chain of IPv6 ones.
    pub udp6: Endpoint<Addr6>,
}

shared! {
    SockUdpKey<Addr4>: size 16, align 4, fields [[u32; 2], Addr4, Port, u8, u8];
    SockUdpKey<Addr6>: size 28, align 4, fields [[u32; 2], Addr6, Port, u8, u8];
    SockUdpValue<Addr4>: size 24, align 4, fields [Endpoint<Addr4>, Endpoint<Addr4>, u32, u32];
    SockUdpValue<Addr6>: size 48, align 4, fields [Endpoint<Addr6>, Endpoint<Addr6>, u32, u32];
    SockStorage: size 68, align 4, fields [Endpoint<Addr6>, Endpoint<Addr6>, Endpoint<Addr4>, Endpoint<Addr6>];
}
