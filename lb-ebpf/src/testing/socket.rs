//! A socket as the hooks meet it.

use core::cell::{RefCell, RefMut};
use core::net::IpAddr;

use lb_common::{Addr4, Addr6, Address, SockStorage};

use crate::sock::Sock;

/// A socket: its identity, and what it remembers.
#[derive(Debug)]
pub struct Socket {
    cookie: u64,
    netns: u64,
    bound: Option<Addr6>,
    storage: RefCell<Option<SockStorage>>,
    room: bool,
}

impl Socket {
    /// The process that all sockets belong to.
    pub const PROCESS: u32 = 4711;
    /// The name of its thread.
    pub const THREAD: [u8; 16] = *b"client\0\0\0\0\0\0\0\0\0\0";

    /// Socket number `cookie` of the network namespace with cookie `netns`.
    #[must_use]
    pub const fn new(cookie: u64, netns: u64) -> Self {
        Self { cookie, netns, bound: None, storage: RefCell::new(None), room: true }
    }

    /// The same, bound to an address.
    #[must_use]
    pub fn bound_to(mut self, addr: IpAddr) -> Self {
        self.bound = Some(match addr {
            IpAddr::V4(addr) => Addr4::from(addr).to_mapped(),
            IpAddr::V6(addr) => addr.into(),
        });
        self
    }

    /// The same, in a kernel that has no room for what it would remember.
    #[must_use]
    pub const fn without_room(mut self) -> Self {
        self.room = false;
        self
    }

    /// The socket in a call of one of the hooks.
    #[must_use]
    pub const fn calling(&self) -> Calling<'_> {
        Calling(self)
    }
}

/// A socket in a call.
#[derive(Clone, Copy, Debug)]
pub struct Calling<'s>(&'s Socket);

impl<'s> Sock for Calling<'s> {
    type Storage = RefMut<'s, SockStorage>;

    fn cookie(&self) -> u64 {
        self.0.cookie
    }

    fn netns(&self) -> u64 {
        self.0.netns
    }

    fn process(&self) -> u32 {
        Socket::PROCESS
    }

    fn name_of_thread(&self, name: &mut [u8; 16]) {
        *name = Socket::THREAD;
    }

    fn bound<A: Address>(&self, addr: &mut Addr6) {
        if let Some(bound) = self.0.bound.filter(|bound| A::from_mapped(bound).is_some()) {
            *addr = bound;
        }
    }

    fn storage(&self) -> Option<Self::Storage> {
        RefMut::filter_map(self.0.storage.borrow_mut(), Option::as_mut).ok()
    }

    fn make_storage(&self) -> Option<Self::Storage> {
        if !self.0.room {
            return None;
        }
        let storage = self.0.storage.borrow_mut();
        Some(RefMut::map(storage, |storage| storage.get_or_insert_with(SockStorage::default)))
    }
}
