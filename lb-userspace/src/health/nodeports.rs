//! Health check node ports: each Service of a load balancer with an external policy Local has one, where the load balancer
//! asks whether this node has endpoints of it (B84 to B88).

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::net::{IpAddr, SocketAddr};
use std::panic::resume_unwind;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::HeaderValue;
use serde::Serialize;
use tokio::select;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;
use tracing::info;

use super::server::Health;
use crate::http::{self, Answer, Board};
use crate::model::{HealthCheck, Kind, ObjectKey, Reason, ServiceName};
use crate::status::Problem;

/// When to listen again where it failed (B87).
const AGAIN: Duration = Duration::from_secs(5);

/// A Service and the address where it is asked for.
type Place = (ServiceName, IpAddr);

/// One that is listened at. Dropped, it is closed.
struct Open {
    port: u16,
    task: AbortHandle,
}

/// The answer (B86).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Said<'a> {
    service: Service<'a>,
    local_endpoints: u32,
    service_proxy_healthy: bool,
}

#[derive(Serialize)]
struct Service<'a> {
    namespace: &'a str,
    name: &'a str,
}

/// Listens where the source says that load balancers ask, at `addresses` of the node, for ever. An unspecified one is all of
/// its family.
pub async fn follow(mut health: Health, mut addresses: watch::Receiver<BTreeSet<IpAddr>>, board: Board) {
    let mut open: BTreeMap<Place, Open> = BTreeMap::new();
    let mut servers = JoinSet::new();
    loop {
        let wanted = wanted(&health.told.borrow_and_update().checks, &addresses.borrow_and_update());
        let stale: Vec<Place> = open
            .iter()
            .filter(|(place, it)| wanted.get(*place) != Some(&it.port))
            .map(|(p, _)| p.clone())
            .collect();
        // All are closed before one is opened: two Services may have changed places.
        for place in stale {
            if let Some(Open { port, task }) = open.remove(&place) {
                task.abort();
                while !task.is_finished() {
                    one_ends(&mut servers).await;
                }
                info!("{}: no health check at {} any more", named(&place), at(&place, port));
            }
        }
        let mut failed = Vec::new();
        for (place, port) in &wanted {
            if open.contains_key(place) {
                continue;
            }
            match http::bind(at(place, *port), true) {
                Ok(listener) => {
                    info!("{}: health check at {}", named(place), at(place, *port));
                    let (asked, health) = (place.clone(), health.clone());
                    let handler = move |_| {
                        let answer = answer(&asked, &health);
                        async move { answer }
                    };
                    let task = servers.spawn(http::serve(listener, handler));
                    open.insert(place.clone(), Open { port: *port, task });
                }
                // A kernel without the family: nobody can ask there.
                Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {}
                Err(error) => {
                    let text = format!("nobody listens at {}: {error}; it is tried again", at(place, *port));
                    let (namespace, name) = place.0.clone();
                    let service = ObjectKey::new(Kind::Service, namespace, name);
                    failed.push(
                        Problem::new(named(place), text).of(service, Reason::FailedToStartServiceHealthcheck),
                    );
                }
            }
        }
        let failing = !failed.is_empty();
        board.tell("health check node ports", failed);
        let again = async { if failing { sleep(AGAIN).await } else { pending().await } };
        select! {
            changed = health.told.changed() => if changed.is_err() { return pending().await },
            changed = addresses.changed() => if changed.is_err() { return pending().await },
            () = again => {}
            () = one_ends(&mut servers) => {}
        }
    }
}

/// Waits until one of `servers` has ended. Its panic goes on here.
async fn one_ends(servers: &mut JoinSet<()>) {
    let Some(ended) = servers.join_next().await else { return pending().await };
    if let Some(panic) = ended.err().and_then(|error| error.try_into_panic().ok()) {
        resume_unwind(panic);
    }
}

/// Where to listen: the port of each Service, at those of `addresses` that are of a family which it has.
fn wanted(checks: &BTreeMap<ServiceName, HealthCheck>, addresses: &BTreeSet<IpAddr>) -> BTreeMap<Place, u16> {
    let places = checks.iter().flat_map(|(service, check)| {
        let served = addresses.iter().filter(|addr| local(check, addr).is_some());
        served.map(|addr| ((service.clone(), *addr), check.port.get()))
    });
    places.collect()
}

/// Endpoints on this node in the family of `addr`; `None` if the Service is not of that.
fn local(check: &HealthCheck, addr: &IpAddr) -> Option<u32> {
    check.local[usize::from(addr.is_ipv6())]
}

fn at((_, addr): &Place, port: u16) -> SocketAddr {
    SocketAddr::new(*addr, port)
}

/// The Service as problems name it.
fn named(((namespace, name), _): &Place) -> String {
    format!("Service {namespace}/{name}")
}

fn answer(place: &Place, health: &Health) -> Answer {
    let ((namespace, name), addr) = place;
    let known = health.told.borrow().checks.get(&place.0).and_then(|check| local(check, addr)).unwrap_or(0);
    // Before the first sync nothing can be sent here (B88).
    let local_endpoints = if health.reports.borrow().synced { known } else { 0 };
    let service_proxy_healthy = health.is_healthy();
    let well = local_endpoints > 0 && service_proxy_healthy;
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let service = Service { namespace, name };
    let mut answer = http::json(status, &Said { service, local_endpoints, service_proxy_healthy });
    answer.headers_mut().insert("x-load-balancing-endpoint-weight", HeaderValue::from(local_endpoints));
    answer
}
