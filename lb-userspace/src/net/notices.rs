//! Word of changes of what packets may have to pass on their way through the node. What has changed is not read: it is looked for
//! anew.

use std::io;
use std::time::Duration;

use futures::FutureExt as _;
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{AsyncSocket as _, AsyncSocketExt as _, TokioSocket};
use rtnetlink::MulticastGroup;
use tokio::time::{Instant, sleep_until};

/// `NFNLGRP_NFTABLES` (linux/netfilter/nfnetlink.h).
const NFTABLES: u32 = 7;
/// The shortest time between two words of changes: rules come in bursts.
const CALM: Duration = Duration::from_secs(1);

/// Word of one kind of changes, of the network namespace of the thread that began to listen.
pub struct Notices {
    socket: TokioSocket,
    next: Instant,
}

impl Notices {
    /// Of rules of netfilter. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The kernel has no netfilter, or refused.
    pub fn of_rules() -> io::Result<Self> {
        Self::listen(NETLINK_NETFILTER, NFTABLES)
    }

    /// Of queueing disciplines and the filters of classic tc. The kernel sends none of programs that are attached by tcx. Must
    /// be called within a tokio runtime.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn of_queues() -> io::Result<Self> {
        Self::listen(NETLINK_ROUTE, MulticastGroup::Tc as u32)
    }

    fn listen(protocol: isize, group: u32) -> io::Result<Self> {
        let mut socket = TokioSocket::new(protocol)?;
        socket.socket_mut().bind_auto()?;
        socket.socket_mut().add_membership(group)?;
        Ok(Self { socket, next: Instant::now() })
    }

    /// Waits until something may have changed; at most once a second.
    pub async fn changed(&mut self) {
        sleep_until(self.next).await;
        // What was lost says as much as what came.
        let mut came = self.socket.recv_from_full().await.is_ok();
        while came {
            came = self.socket.recv_from_full().now_or_never().is_some_and(|received| received.is_ok());
        }
        self.next = Instant::now() + CALM;
    }
}
