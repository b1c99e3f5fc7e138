//! Health check node ports, on all addresses of this machine: their numbers are taken from the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;

use lb_userspace::health::{self, Told};
use lb_userspace::http::Board;
use lb_userspace::model::HealthCheck;
use lb_userspace::reconcile::Report;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::support::{Fake, get, until};

/// A port that was free a moment ago.
async fn free() -> u16 {
    TcpListener::bind("[::]:0").await.unwrap().local_addr().unwrap().port()
}

/// All addresses of both families.
fn everywhere() -> BTreeSet<IpAddr> {
    BTreeSet::from([Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()])
}

fn told(checks: &[(&str, u16, [Option<u32>; 2])]) -> Told {
    let check = |(name, port, local): &(&str, u16, _)| {
        let check = HealthCheck { port: NonZeroU16::new(*port).unwrap(), local: *local };
        (("d".into(), (*name).into()), check)
    };
    Told { checks: Arc::new(checks.iter().map(check).collect::<BTreeMap<_, _>>()), ..Told::default() }
}

/// What is said at a port: by family the status code, and how many endpoints; `None` where nobody listens.
async fn said(port: u16) -> [Option<(u16, u64)>; 2] {
    let mut all = [None; 2];
    let addresses = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    for (said, addr) in all.iter_mut().zip(addresses) {
        let Ok((head, body)) = get(SocketAddr::new(addr, port), "/any/path").await else { continue };
        // Whoever else may have taken the port by now does not answer like this.
        let Ok(body) = serde_json::from_str::<serde_json::Value>(&body) else { continue };
        let Some(count) = body["localEndpoints"].as_u64() else { continue };
        assert!(head.contains(&format!("\r\nx-load-balancing-endpoint-weight: {count}\r\n")), "{head}");
        assert!(head.contains("\r\nx-content-type-options: nosniff\r\n"), "{head}");
        assert!(head.contains("\r\ncontent-type: application/json\r\n"), "{head}");
        assert_eq!(body["service"]["namespace"], "d");
        *said = Some((head[9..12].parse().unwrap(), count));
    }
    all
}

#[tokio::test]
async fn b84_b85_b86_b87_b88_health_check_node_ports() {
    let fake = Fake::new();
    let board = Board::default();
    let (addresses, at) = watch::channel(everywhere());
    tokio::spawn(health::follow(fake.health.clone(), at, board.clone()));
    let (a, b) = (free().await, free().await);
    fake.told.send_replace(told(&[("a", a, [Some(2), Some(0)]), ("v4", b, [Some(1), None])]));
    until(|| async { said(a).await == [Some((503, 0)); 2] }).await;
    fake.reports.send_modify(|report| report.synced = true);
    assert_eq!(said(a).await, [Some((200, 2)), Some((503, 0))], "b88: not before the first sync");
    until(|| async { said(b).await == [Some((200, 1)), None] }).await;
    // Both change: one its port, the other its counts.
    let c = free().await;
    fake.told.send_replace(told(&[("a", c, [Some(2), Some(1)]), ("v4", a, [Some(0), None])]));
    until(|| async { said(c).await == [Some((200, 2)), Some((200, 1))] }).await;
    until(|| async { said(a).await == [Some((503, 0)), None] }).await;
    assert_eq!(said(b).await, [None; 2]);
    // A proxy that does not keep up should not be used (B93); a node that is to go does not matter (B91).
    let mut late = Report { synced: true, ..Report::default() };
    late.families[0].waiting = std::time::Instant::now().checked_sub(health::LATE);
    let unhealthy = late.families[0].waiting.is_some();
    fake.reports.send_replace(late);
    assert_eq!(said(c).await[0], Some((if unhealthy { 503 } else { 200 }, 2)));
    fake.reports.send_replace(Report { synced: true, ..Report::default() });
    fake.told.send_modify(|told| told.eligible = false);
    assert_eq!(said(c).await[0], Some((200, 2)));
    // Node ports are served at some addresses alone, and so are these (B84).
    addresses.send_replace(BTreeSet::from([Ipv4Addr::LOCALHOST.into(), [192, 0, 2, 1].into()]));
    until(|| async { said(c).await == [Some((200, 2)), None] }).await;
    let problem = || board.follow().borrow().values().flatten().map(|it| it.text.clone()).next();
    until(|| async { problem().is_some_and(|text| text.contains("192.0.2.1:")) }).await;
    fake.told.send_replace(Told::default());
    until(|| async { said(a).await == [None; 2] && said(c).await == [None; 2] }).await;
}

#[tokio::test]
async fn b87_a_port_that_is_in_use_is_named_and_tried_again() {
    let fake = Fake::new();
    let board = Board::default();
    let problems = board.follow();
    fake.reports.send_replace(Report { synced: true, ..Report::default() });
    let (_addresses, at) = watch::channel(everywhere());
    tokio::spawn(health::follow(fake.health.clone(), at, board.clone()));
    let taken = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let (port, other) = (taken.local_addr().unwrap().port(), free().await);
    fake.told.send_replace(told(&[("a", port, [Some(1), None]), ("b", other, [Some(1), None])]));
    let named = || -> Vec<String> {
        problems.borrow().values().flatten().map(|it| format!("{}: {}", it.object, it.text)).collect()
    };
    until(|| async { !named().is_empty() }).await;
    let text = &named()[0];
    assert!(text.starts_with("Service d/a: nobody listens at 0.0.0.0:"), "{text}");
    until(|| async { said(other).await[0] == Some((200, 1)) }).await;
    drop(taken);
    until(|| async { said(port).await[0] == Some((200, 1)) }).await;
    until(|| async { named().is_empty() }).await;
}
