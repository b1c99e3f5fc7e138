//! Conversations that go on whatever happens around them.

use std::net::{IpAddr, SocketAddr};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use xtask::lab::helper::wire::{Answer, Failure, Socket};
use xtask::lab::{Conn, wait_for};

use super::scene::{Client, Scene};
use super::service::{Front, Svc};
use crate::support::WAYS;

/// How long the network may take to be itself again.
const RECOVERED: Duration = Duration::from_secs(60);

/// Open conversations, TCP and UDP, each with what its backend answered first.
pub(super) struct Kept<'s>(Vec<Conversation<'s>>);

/// One of them.
struct Conversation<'s> {
    case: String,
    socket: Socket,
    conn: Conn<'s>,
    first: Answer,
}

impl Conversation<'_> {
    /// A datagram is sent a second time: all network namespaces of a machine share the kernel's queues, and what another
    /// test floods is lost to everybody.
    fn ask(&self) -> Result<Answer, Failure> {
        match self.conn.ask() {
            Err(failure) if self.socket == Socket::Udp && failure.kind == "WouldBlock" => self.conn.ask(),
            asked => asked,
        }
    }
}

impl<'s> Kept<'s> {
    /// Opens two of each kind, `from` another address where that is given, as there are two endpoints.
    pub(super) fn open(
        scene: &'s Scene,
        client: &Client<'s>,
        from: Option<[IpAddr; 2]>,
        (svc, fronts): (Svc, &[Front]),
    ) -> Self {
        let mut all = Vec::new();
        for (front, way) in fronts.iter().flat_map(|front| WAYS.map(|way| (front, way))) {
            for number in [1, 2] {
                let from = from.map(|ips| SocketAddr::new(ips[way.family], 0));
                let case = format!("{} to {front:?}, {way:?}, conversation {number}", client.name);
                let conn = client.space.open_from(way.socket, from, Some(svc.at(scene, *front, way)));
                let conn = conn.unwrap_or_else(|failure| panic!("{case}: {failure}\n{}", scene.log()));
                let first = conn.ask().unwrap_or_else(|failure| panic!("{case}: {failure}\n{}", scene.log()));
                all.push(Conversation { case, socket: way.socket, conn, first });
            }
        }
        Self(all)
    }

    /// Those of `other` as well.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// What the backends called `pod` have.
    pub(super) fn with(&self, pod: &str) -> Vec<IpAddr> {
        self.0.iter().filter(|kept| kept.first.pod == pod).map(|kept| kept.first.client.ip()).collect()
    }

    /// Leaves only those with the backend called `pod`.
    pub(super) fn retain(&mut self, pod: &str) {
        self.0.retain(|kept| kept.first.pod == pod);
    }

    /// Asks in each; all have to be answered by whom they were, and to be seen as they were.
    ///
    /// # Errors
    /// The first where it is otherwise.
    fn asked(&self) -> Result<(), String> {
        for kept in &self.0 {
            match kept.ask() {
                Ok(answer) if answer == kept.first => {}
                answer => return Err(format!("{}: {answer:?}, was {:?}", kept.case, kept.first)),
            }
        }
        Ok(())
    }

    /// Asks in each, all the time while `happens`: none notices anything.
    pub(super) fn notice_nothing<T>(&self, what: &str, happens: impl FnOnce() -> T) -> T {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let asking = scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    self.asked()?;
                }
                self.asked()
            });
            // A panic must end the asking, too, for which the scope waits.
            let done = panic::catch_unwind(AssertUnwindSafe(happens));
            over.store(true, Ordering::Relaxed);
            asking.join().unwrap().unwrap_or_else(|failed| panic!("{what}: {failed}"));
            done.unwrap_or_else(|panic| panic::resume_unwind(panic))
        })
    }

    /// Waits until all are answered again.
    pub(super) fn recover(&self, what: &str) {
        let mut last = Ok(());
        wait_for(RECOVERED, || {
            last = self.asked();
            last.is_ok()
        })
        .unwrap_or_else(|error| panic!("{what}: {error}: {last:?}"));
    }
}
