//! `/healthz` and `/livez`.

use std::time::Instant;

use hyper::StatusCode;
use lb_userspace::health::{LATE, Told};
use lb_userspace::http::{self, Board};
use lb_userspace::reconcile::Report;
use tokio::net::TcpListener;

use crate::support::{Fake, get, until};

#[tokio::test]
async fn b90_b91_b92_probes_are_answered_by_node_and_progress() {
    let fake = Fake::new();
    let listener = http::bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
    let addr = listener.local_addr().unwrap();
    let health = fake.health.clone();
    tokio::spawn(http::serve(listener, move |path| {
        let answer = health.answer(&path);
        async move { answer }
    }));
    let mut late = Report::default();
    // A machine that was started a moment ago has no such time in its past.
    late.families[1].waiting = Instant::now().checked_sub(LATE);
    for (report, eligible, [healthz, livez]) in [
        (Report::default(), true, [200, 200]),
        (Report::default(), false, [503, 200]),
        (late.clone(), true, [503, 503]),
        (late, false, [503, 503]),
    ] {
        let healthy = report.families[1].waiting.is_none();
        fake.reports.send_replace(report);
        fake.told.send_replace(Told { eligible, ..Told::default() });
        for (path, code) in [("/healthz", healthz), ("/livez?verbose", livez)] {
            let (head, body) = get(addr, path).await.unwrap();
            let status = StatusCode::from_u16(code).unwrap();
            assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{path}: {head}");
            assert!(head.contains("\r\ncontent-type: application/json\r\n"), "{head}");
            let said: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(said["healthy"], healthy);
            assert_eq!(said["status"]["IPv6"]["healthy"], healthy);
            assert_eq!(said["status"]["IPv4"]["healthy"], true);
            let node = if path == "/healthz" { eligible.into() } else { serde_json::Value::Null };
            assert_eq!(said["nodeEligible"], node);
        }
    }
    assert!(get(addr, "/").await.unwrap().0.starts_with("HTTP/1.1 404 "));
    let count = |counter: &prometheus::IntCounterVec, code: &str| counter.with_label_values(&[code]).get();
    let Fake { health, .. } = &fake;
    assert_eq!((count(&health.healthz, "200"), count(&health.healthz, "503")), (1, 3));
    assert_eq!((count(&health.livez, "200"), count(&health.livez, "503")), (2, 2));
}

#[tokio::test]
async fn b95_an_address_that_is_in_use_is_a_problem_until_it_is_free() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = taken.local_addr().unwrap();
    let board = Board::default();
    let problems = board.follow();
    let server = board.clone();
    tokio::spawn(async move {
        let answer = |_| async { http::text(StatusCode::OK, "ok") };
        http::keep("--somewhere", addr, None, &server, answer).await;
    });
    let wrong = || problems.borrow().values().flatten().next().map(|problem| problem.text.clone());
    until(|| async { wrong().is_some() }).await;
    assert!(wrong().unwrap().starts_with(&format!("nobody listens at {addr}: ")), "{:?}", wrong());
    drop(taken);
    until(|| async { get(addr, "/").await.is_ok() }).await;
    assert_eq!(wrong(), None);
}
