//! Sockets of the network namespace by sock_diag: those that listen are listed, connected ones of UDP closed.

use std::io;
use std::net::SocketAddr;

use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use netlink_packet_sock_diag::{SockDiagDestroy, SockDiagMessage};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr as Kernel};
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_DUMP, NetlinkSerializable};

use super::ask::ask;

/// Why sockets cannot be listed or closed.
#[derive(Debug, thiserror::Error)]
pub enum DiagError {
    /// The kernel was built without the closing of sockets.
    #[error("the kernel lacks CONFIG_INET_DIAG_DESTROY")]
    Unsupported,
    /// The kernel refused.
    #[error("{call}: {source}")]
    Syscall {
        /// Name of the call.
        call: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
}

fn failed(call: &'static str) -> impl FnOnce(io::Error) -> DiagError {
    move |source| DiagError::Syscall { call, source }
}

const LIST: &str = "SOCK_DIAG_BY_FAMILY of UDP sockets";
const LISTEN: &str = "SOCK_DIAG_BY_FAMILY of sockets that listen";
const CLOSE: &str = "SOCK_DESTROY of a UDP socket";

/// A connected UDP socket, as it was when it was listed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Connected {
    family: u8,
    id: SocketId,
}

impl Connected {
    /// Its cookie (`SO_COOKIE`).
    #[must_use]
    pub fn cookie(&self) -> u64 {
        // Two words, each in the byte order of the machine, the lower one first.
        let [a, b, c, d, e, f, g, h] = self.id.cookie;
        let [low, high] = [[a, b, c, d], [e, f, g, h]].map(u32::from_ne_bytes);
        u64::from(high) << 32 | u64::from(low)
    }

    /// The address that it is connected to; an IPv4-mapped one is given as IPv4.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        SocketAddr::new(self.id.destination_address.to_canonical(), self.id.destination_port)
    }
}

/// A way to ask the kernel about the sockets of the network namespace of the thread that opened it.
pub struct Sockets(Socket);

impl Sockets {
    /// Opens it.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn open() -> Result<Self, DiagError> {
        let socket = Socket::new(NETLINK_SOCK_DIAG).map_err(failed("socket NETLINK_SOCK_DIAG"))?;
        socket.connect(&Kernel::new(0, 0)).map_err(failed("connect NETLINK_SOCK_DIAG"))?;
        Ok(Self(socket))
    }

    /// All connected UDP sockets of both families.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn connected(&self) -> Result<Vec<Connected>, DiagError> {
        let mut sockets = Vec::new();
        for (family, socket_id) in [(AF_INET, SocketId::new_v4()), (AF_INET6, SocketId::new_v6())] {
            let request = request((family, IPPROTO_UDP), socket_id, StateFlags::ESTABLISHED);
            let request = SockDiagMessage::InetRequest(request);
            let found = self.ask(request, NLM_F_DUMP).map_err(failed(LIST))?;
            sockets.extend(found.into_iter().map(|(family, id)| Connected { family, id }));
        }
        Ok(sockets)
    }

    /// All sockets that wait for anybody: TCP sockets that listen, UDP sockets that are bound and not connected. Each with
    /// its protocol number and where it waits.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn listening(&self) -> Result<Vec<(u8, SocketAddr)>, DiagError> {
        let mut sockets = Vec::new();
        for (protocol, states) in [(IPPROTO_TCP, StateFlags::LISTEN), (IPPROTO_UDP, StateFlags::CLOSE)] {
            for (family, socket_id) in [(AF_INET, SocketId::new_v4()), (AF_INET6, SocketId::new_v6())] {
                let request =
                    SockDiagMessage::InetRequest(request((family, protocol), socket_id, states.clone()));
                let found = self.ask(request, NLM_F_DUMP).map_err(failed(LISTEN))?;
                let at = |id: SocketId| SocketAddr::new(id.source_address, id.source_port);
                sockets.extend(found.into_iter().map(|(_, id)| (protocol, at(id))));
            }
        }
        Ok(sockets)
    }

    /// Closes `socket`, as its owner sees it: it is connected to nobody from then on, so that sending fails with
    /// `EDESTADDRREQ`; who waits to receive is woken, with `ECONNABORTED`. False if there is no such socket any more.
    ///
    /// # Errors
    /// [`DiagError::Unsupported`], or the kernel refused.
    pub fn close(&self, socket: &Connected) -> Result<bool, DiagError> {
        let request = request((socket.family, IPPROTO_UDP), socket.id.clone(), StateFlags::empty());
        let request = SockDiagDestroy::new(SockDiagMessage::InetRequest(request));
        match self.ask(request, NLM_F_ACK) {
            Ok(_) => Ok(true),
            Err(error) => match error.raw_os_error() {
                // ESTALE: the addresses and ports belong to another socket by now.
                Some(libc::ENOENT | libc::ESTALE) => Ok(false),
                Some(libc::EOPNOTSUPP) => Err(DiagError::Unsupported),
                _ => Err(failed(CLOSE)(error)),
            },
        }
    }

    /// Finds out whether sockets can be listed and closed.
    ///
    /// # Errors
    /// They cannot.
    pub fn probe(&self) -> Result<(), DiagError> {
        // Without this first, a kernel that lacks all of it would answer as if only the socket were missing.
        self.connected()?;
        self.close(&Connected { family: AF_INET, id: SocketId::new_v4() }).map(drop)
    }

    /// Sends one request: the sockets of the answer, each with its family.
    fn ask<T: NetlinkSerializable>(&self, request: T, flags: u16) -> io::Result<Vec<(u8, SocketId)>> {
        ask(&self.0, request, flags, |answer| match answer {
            SockDiagMessage::InetResponse(socket) => Some((socket.header.family, socket.header.socket_id)),
            _ => None,
        })
    }
}

fn request((family, protocol): (u8, u8), socket_id: SocketId, states: StateFlags) -> InetRequest {
    let extensions = ExtensionFlags::empty();
    InetRequest { family, protocol, extensions, states, socket_id }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, UdpSocket};
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn sockets_that_wait_for_anybody_are_listed() {
        let tcp = std::net::TcpListener::bind("[::1]:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let connected = UdpSocket::bind("127.0.0.1:0").unwrap();
        connected.connect(udp.local_addr().unwrap()).unwrap();
        let listening = Sockets::open().unwrap().listening().unwrap();
        for own in [(IPPROTO_TCP, tcp.local_addr()), (IPPROTO_UDP, udp.local_addr())] {
            assert!(listening.contains(&(own.0, own.1.unwrap())), "{listening:?}");
        }
        assert!(!listening.contains(&(IPPROTO_UDP, connected.local_addr().unwrap())), "{listening:?}");
    }

    #[test]
    fn connected_sockets_are_listed_with_cookie_and_peer() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = server.local_addr().unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(to).unwrap();
        let mapped = UdpSocket::bind("[::ffff:127.0.0.1]:0").unwrap();
        let IpAddr::V4(addr) = to.ip() else { panic!("{to}") };
        mapped.connect((addr.to_ipv6_mapped(), to.port())).unwrap();
        let sockets = Sockets::open().unwrap().connected().unwrap();
        for socket in [&client, &mapped] {
            let cookie = rustix::net::sockopt::socket_cookie(socket.as_fd()).unwrap();
            let found: Vec<_> = sockets.iter().filter(|socket| socket.cookie() == cookie).collect();
            assert_eq!(found.len(), 1, "{sockets:?}");
            assert_eq!(found[0].peer(), to);
        }
        let own = rustix::net::sockopt::socket_cookie(server.as_fd()).unwrap();
        assert!(sockets.iter().all(|socket| socket.cookie() != own), "it is not connected");
    }
}
