//! What the socket hooks ask of the world around them, beside the tables.

use core::ops::{Deref, DerefMut};

use lb_common::{Addr6, Address, Endpoint, Proto, Reason, SockCall, SockStorage, SockUdpKey, SockUdpValue};

use super::{Directed, Recalled, Settled};
use crate::env::Env;
use crate::event;
use crate::select::{Choice, Chosen};

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
    /// Writes the address of family `A` that it is bound to, IPv4 as a mapped one; nothing if the kernel is yet to choose
    /// one.
    fn bound<A: Address>(&self, addr: &mut Addr6);
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

    /// [`super::direct`]. A seam where the programs are cut, see [`crate::cut`].
    #[inline(always)]
    fn direct<S: Sock>(
        &self,
        sock: &S,
        connects: bool,
        endpoint: &mut Endpoint<A>,
    ) -> Result<Directed, Reason>
    where
        Self: Sized,
    {
        super::direct(self, sock, connects, endpoint)
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

    /// [`super::choose`] for a UDP socket of the host. A seam as well.
    #[inline(always)]
    fn choose(&self, choice: &mut Choice<A>) -> Result<Chosen, Reason>
    where
        Self: Sized,
    {
        super::choose(self, Proto::Udp, true, choice)
    }

    /// [`super::recall`]. A seam as well.
    #[inline(always)]
    fn recall<S: Sock>(&self, sock: &S, choice: &mut Choice<A>) -> Result<Recalled, Reason>
    where
        Self: Sized,
    {
        super::recall(self, sock, choice)
    }

    /// [`super::settle`]. A seam as well.
    #[inline(always)]
    fn settle<S: Sock>(&self, sock: &S, share: bool, choice: &mut Choice<A>) -> Result<Settled, Reason>
    where
        Self: Sized,
    {
        super::settle(self, sock, share, choice)
    }
}
