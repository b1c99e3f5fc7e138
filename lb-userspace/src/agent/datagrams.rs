//! Connected UDP sockets of the host whose backend has gone are closed, so that their owners open new ones (B96, B101).
//!
//! An unconnected socket asks again with each message; a connected one asks nobody once it is connected. Which sockets
//! are meant is read from the tables each time: after every change of a UDP Service port, at the start, and now and then
//! for what fell between two looks. TCP is left alone (B99).

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytemuck::Pod;
use lb_common::maps::{BACKENDS_MAP, FRONTENDS4, FRONTENDS6, SERVICES_MAP, SOCK_UDP4, SOCK_UDP6};
use lb_common::{
    Addr4, Addr6, Address, BackendRecord, BackendWord, FrontendKey, FrontendKind, FrontendValue, Proto,
    ServiceRecord, SockUdpKey, SockUdpRole, SockUdpValue, Span, service_flags,
};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::bpf::map::{Array, Hash, MapError};
use crate::bpf::pin::PinDir;
use crate::net::diag::{DiagError, Sockets};
use crate::reconcile::Report;
use crate::status::Problem;
use crate::tasks::blocking;

/// How often to look without a change: a socket that was about to connect during the last look was not seen.
const LOOK: Duration = Duration::from_secs(10);
/// The shortest time between two looks.
const CALM: Duration = Duration::from_millis(20);

/// Why sockets stay with a backend that is gone.
#[derive(Debug, thiserror::Error)]
enum CloseError {
    #[error(transparent)]
    Map(#[from] MapError),
    #[error(transparent)]
    Sockets(#[from] DiagError),
}

/// The tables of one family.
struct Half<A: Address>
where
    FrontendKey<A>: Pod,
    SockUdpKey<A>: Pod,
    SockUdpValue<A>: Pod,
{
    translations: Hash<SockUdpKey<A>, SockUdpValue<A>>,
    frontends: Hash<FrontendKey<A>, FrontendValue>,
}

/// What is asked, and who is asked.
struct Closer {
    v4: Half<Addr4>,
    v6: Half<Addr6>,
    services: Array<ServiceRecord>,
    backends: Array<BackendRecord>,
    sockets: Sockets,
}

/// Closes what is to be closed until `reports` end; `news`: what keeps it from doing so.
pub(super) async fn follow(
    pins: PinDir,
    mut reports: watch::Receiver<Report>,
    news: watch::Sender<Option<Problem>>,
) {
    let closer = Closer::open(&pins).map(Arc::new);
    if let Err(error) = &closer {
        tell(&news, Some(error));
    }
    let Ok(closer) = closer else { return std::future::pending().await };
    loop {
        let seen = reports.borrow_and_update().datagrams;
        let worker = Arc::clone(&closer);
        let outcome = blocking(move || worker.close()).await;
        if let Ok(closed @ 1..) = outcome {
            info!(closed, "connected UDP sockets of the host were closed: their backends are gone");
        }
        tell(&news, outcome.as_ref().err());
        sleep(CALM).await;
        if let Ok(Err(_)) = timeout(LOOK, reports.wait_for(|report| report.datagrams != seen)).await {
            return;
        }
    }
}

/// Logs and publishes `error` if it is another one than before.
fn tell(news: &watch::Sender<Option<Problem>>, error: Option<&CloseError>) {
    let problem = error.map(|error| {
        let text = format!(
            "connected ones whose backend is gone stay with it until their owners open new ones: {error}"
        );
        Problem::new("UDP sockets of the host", text)
    });
    news.send_if_modified(|known| {
        let modified = *known != problem;
        if let Some(problem) = problem.as_ref().filter(|_| modified) {
            warn!("{problem}");
        }
        *known = problem;
        modified
    });
}

impl Closer {
    fn open(pins: &PinDir) -> Result<Self, CloseError> {
        let sockets = Sockets::open()?;
        sockets.probe()?;
        Ok(Self {
            v4: Half { translations: Hash::open(pins, SOCK_UDP4)?, frontends: Hash::open(pins, FRONTENDS4)? },
            v6: Half { translations: Hash::open(pins, SOCK_UDP6)?, frontends: Hash::open(pins, FRONTENDS6)? },
            services: Array::open(pins, SERVICES_MAP)?,
            backends: Array::open(pins, BACKENDS_MAP)?,
            sockets,
        })
    }

    /// How many sockets were closed.
    fn close(&self) -> Result<usize, CloseError> {
        let mut lost = self.lost(&self.v4)?;
        lost.extend(self.lost(&self.v6)?);
        let mut closed = 0;
        if lost.is_empty() {
            return Ok(closed);
        }
        for socket in self.sockets.connected()? {
            // One that is connected elsewhere by now, or to nobody, needs no help.
            if lost.contains(&(socket.cookie(), socket.peer())) && self.sockets.close(&socket)? {
                closed += 1;
            }
        }
        Ok(closed)
    }

    /// Cookies of sockets and the backends that they have lost.
    fn lost<A: Address>(&self, half: &Half<A>) -> Result<HashSet<(u64, SocketAddr)>, MapError>
    where
        FrontendKey<A>: Pod,
        SockUdpKey<A>: Pod,
        SockUdpValue<A>: Pod,
    {
        let mut lost = HashSet::new();
        for entry in half.translations.entries() {
            let (key, value) = entry?;
            let word = BackendWord(self.backends.load(value.backend, 0)?);
            if key.role != SockUdpRole::ToBackend as u8
                || word.serving() && word.generation() == value.generation
            {
                continue;
            }
            let at = |addr| half.frontends.get(&FrontendKey::new(addr, key.port, Proto::Udp as u8));
            // Node ports stand once, for all addresses.
            let Some(frontend) = at(key.addr)?.map_or_else(|| at(A::default()), |it| Ok(Some(it)))? else {
                continue;
            };
            if can_serve(frontend.kind, &self.services.get(frontend.service)?) {
                lost.insert((
                    key.cookie(),
                    SocketAddr::new(value.peer.addr.into(), value.peer.port.number()),
                ));
            }
        }
        Ok(lost)
    }
}

/// Whether a new flow of the host's to such a [`FrontendKind`] would find an endpoint. While none does, sockets keep what
/// they have (B98), as flows do.
const fn can_serve(kind: u8, service: &ServiceRecord) -> bool {
    // The external policy is not for the host (B56).
    let local = kind == FrontendKind::ClusterIp as u8 && service.flags & service_flags::INTERNAL_LOCAL != 0;
    !Span(if local { service.local } else { service.cluster }).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b98_only_a_service_that_can_serve_loses_its_sockets() {
        let [some, none] = [Span::new(7, 2).0, 0];
        let can = |kind, cluster, local, flags| {
            can_serve(kind as u8, &ServiceRecord { cluster, local, flags, ..ServiceRecord::default() })
        };
        let (inside, outside) = (FrontendKind::ClusterIp, FrontendKind::NodePort);
        assert!(can(inside, some, none, 0));
        assert!(!can(inside, none, some, 0));
        assert!(can(inside, none, some, service_flags::INTERNAL_LOCAL));
        assert!(!can(inside, some, none, service_flags::INTERNAL_LOCAL));
        assert!(can(outside, some, none, service_flags::INTERNAL_LOCAL | service_flags::EXTERNAL_LOCAL));
        assert!(!can(outside, none, some, 0));
    }

    #[test]
    fn what_is_wrong_is_told_once() {
        let (news, mut told) = watch::channel(None);
        let error = CloseError::Sockets(DiagError::Unsupported);
        tell(&news, Some(&error));
        assert!(told.borrow_and_update().as_ref().unwrap().text.contains("CONFIG_INET_DIAG_DESTROY"));
        tell(&news, Some(&error));
        assert!(!told.has_changed().unwrap());
        tell(&news, None);
        assert_eq!(*told.borrow_and_update(), None);
    }
}
