//! A client socket in a space.

use std::net::SocketAddr;

use super::Space;
use super::helper::wire::{Answer, Failure, Opened, Reply, Request};

/// An open socket of a [`Space`]; closed on drop.
#[derive(Debug)]
pub struct Conn<'a> {
    space: &'a Space,
    opened: Opened,
}

impl<'a> Conn<'a> {
    pub(super) const fn new(space: &'a Space, opened: Opened) -> Self {
        Self { space, opened }
    }

    /// The local address; unspecified for a socket that has none yet.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.opened.local
    }

    /// What getpeername says; `None` for an unconnected socket.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.opened.peer
    }

    /// How long connect took.
    #[must_use]
    pub fn took_ms(&self) -> u64 {
        self.opened.took_ms
    }

    /// Sends a line or datagram to the connected peer and waits for the answer.
    ///
    /// # Errors
    /// How it failed, and after how long.
    pub fn ask(&self) -> Result<Answer, Failure> {
        self.exchange(None)
    }

    /// Sends a datagram to `to` from an unconnected socket and waits for one.
    ///
    /// # Errors
    /// How it failed, and after how long.
    pub fn ask_to(&self, to: SocketAddr) -> Result<Answer, Failure> {
        self.exchange(Some(to))
    }

    fn exchange(&self, to: Option<SocketAddr>) -> Result<Answer, Failure> {
        match self.space.must(&Request::Ask { id: self.opened.id, to })? {
            Reply::Answer(answer) => Ok(answer),
            other => Err(Failure::protocol(&other)),
        }
    }
}

impl Drop for Conn<'_> {
    fn drop(&mut self) {
        // The helper may be gone already; its sockets are then, too.
        let _ = self.space.call(&Request::Close { id: self.opened.id });
    }
}
