//! What the socket hooks ask of the world around them, beside the tables.

use core::ops::{Deref, DerefMut};

use lb_common::{Address, Endpoint, Proto, Reason, SockCall, SockStorage, SockUdpKey, SockUdpValue};

use super::Directed;
use crate::env::Env;
use crate::event;

/// The socket under way.
pub trait Sock {
    /// What it remembers.
    type Storage: DerefMut<Target = SockStorage>;

    /// Its cookie (`SO_COOKIE`).
    fn cookie(&self) -> u64;
    /// The cookie of its network namespace (`SO_NETNS_COOKIE`).
    fn netns(&self) -> u64;
    /// The process that calls (thread group id).
    fn process(&self) -> u32;
    /// Writes the name of the calling thread, padded with zeros.
    fn name_of_thread(&self, name: &mut [u8; 16]);
    /// What it remembers, if anything.
    fn storage(&self) -> Option<Self::Storage>;
    /// The same, made if there is nothing; `None` if there is no room.
    fn make_storage(&self) -> Option<Self::Storage>;
}

/// The translations of the host's UDP sockets.
pub trait SockEnv<A: Address>: Env<A> {
    /// An entry in place. Only the calls of its own socket change it, but the table may evict it.
    type SockUdp: Deref<Target = SockUdpValue<A>>;

    /// The entry of `key`.
    fn sock_udp(&self, key: &SockUdpKey<A>) -> Option<Self::SockUdp>;
    /// Inserts or replaces an entry; false if there is no room.
    #[must_use]
    fn insert_sock_udp(&self, key: &SockUdpKey<A>, value: &SockUdpValue<A>) -> bool;
    /// Removes an entry.
    fn delete_sock_udp(&self, key: &SockUdpKey<A>);

    /// [`super::direct_tcp`]. A seam where the programs are cut, see [`crate::cut`].
    #[inline(always)]
    fn direct_tcp<S: Sock>(&self, sock: &S, endpoint: &mut Endpoint<A>) -> Result<Directed, Reason>
    where
        Self: Sized,
    {
        super::direct_tcp(self, sock, endpoint)
    }

    /// [`event::refused`]. A seam as well.
    #[inline(always)]
    fn refuse<S: Sock>(
        &self,
        sock: &S,
        call: SockCall,
        proto: Proto,
        reason: Reason,
        endpoint: &mut Endpoint<A>,
    ) where
        Self: Sized,
    {
        event::refused(self, sock, call, proto, reason, endpoint);
    }

    /// [`super::direct_udp`]. A seam as well.
    #[inline(always)]
    fn direct_udp<S: Sock>(&self, sock: &S, endpoint: &mut Endpoint<A>) -> Result<Directed, Reason>
    where
        Self: Sized,
    {
        super::direct_udp(self, sock, endpoint)
    }
}
