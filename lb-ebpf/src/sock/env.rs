//! What the socket hooks ask of the world around them, beside the tables.

use core::ops::{Deref, DerefMut};

use lb_common::{Address, Endpoint, Reason, SockStorage, SockUdpKey, SockUdpValue};

use super::Directed;
use crate::env::Env;

/// The socket under way.
pub trait Sock {
    /// What it remembers.
    type Storage: DerefMut<Target = SockStorage>;

    /// Its cookie (`SO_COOKIE`).
    fn cookie(&self) -> u64;
    /// The cookie of its network namespace (`SO_NETNS_COOKIE`).
    fn netns(&self) -> u64;
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

    /// [`super::direct_udp`]. A seam as well.
    #[inline(always)]
    fn direct_udp<S: Sock>(&self, sock: &S, endpoint: &mut Endpoint<A>) -> Result<Directed, Reason>
    where
        Self: Sized,
    {
        super::direct_udp(self, sock, endpoint)
    }
}
