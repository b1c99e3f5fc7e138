//! Queueing disciplines of interfaces: where packets wait, are shaped, or meet the filters of classic tc.

use std::collections::BTreeSet;
use std::io;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr as Kernel};
use rtnetlink::packet_core::NLM_F_DUMP;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcAttribute, TcMessage};

use super::ask::ask;

/// The interfaces of this thread's network namespace that have queues, by index.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Queues {
    /// Those with one of any kind, on the way in or out.
    pub any: BTreeSet<u32>,
    /// Those with one on the way in, where the filters of classic tc are.
    pub ingress: BTreeSet<u32>,
}

impl Queues {
    /// Those that there are now.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn list() -> io::Result<Self> {
        let socket = Socket::new(NETLINK_ROUTE)?;
        socket.connect(&Kernel::new(0, 0))?;
        let mut queues = Self::default();
        let request = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default());
        let queue = |message| match message {
            RouteNetlinkMessage::NewQueueDiscipline(queue) => Some(queue),
            _ => None,
        };
        ask(&socket, request, NLM_F_DUMP, queue)?.iter().for_each(|queue| queues.note(queue));
        Ok(queues)
    }

    fn note(&mut self, queue: &TcMessage) {
        let Ok(index) = u32::try_from(queue.header.index) else { return };
        let kind = queue.attributes.iter().find_map(|attribute| match attribute {
            TcAttribute::Kind(kind) => Some(kind.as_str()),
            _ => None,
        });
        match kind {
            Some("noqueue") => return,
            Some("clsact" | "ingress") => drop(self.ingress.insert(index)),
            _ => {}
        }
        self.any.insert(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_queue_is_left_out() {
        let mut queues = Queues::default();
        for (index, kind) in [(1, "noqueue"), (2, "clsact"), (3, "tbf"), (2, "noqueue")] {
            let mut queue = TcMessage::default();
            queue.header.index = index;
            queue.attributes = vec![TcAttribute::Kind(kind.to_owned())];
            queues.note(&queue);
        }
        assert_eq!(queues, Queues { any: [2, 3].into(), ingress: [2].into() });
        assert!(Queues::list().is_ok());
    }
}
