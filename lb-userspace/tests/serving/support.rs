//! An agent that is only asked, and clients.

use std::net::SocketAddr;
use std::time::Duration;

use lb_userspace::health::{Health, Told};
use lb_userspace::reconcile::Report;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// How long to wait for anything; more than enough on the busiest machine.
const LONG: Duration = Duration::from_secs(30);

/// What the agent would tell its servers.
pub(crate) struct Fake {
    pub(crate) health: Health,
    pub(crate) reports: watch::Sender<Report>,
    pub(crate) told: watch::Sender<Told>,
}

impl Fake {
    pub(crate) fn new() -> Self {
        let (reports, report) = watch::channel(Report::default());
        let (told, heard) = watch::channel(Told::default());
        Self { health: Health::new(report, heard).unwrap(), reports, told }
    }
}

/// Asks `addr` for `path`; the head of the answer and its body, or why there is none.
pub(crate) async fn get(addr: SocketAddr, path: &str) -> std::io::Result<(String, String)> {
    let mut stream = timeout(LONG, TcpStream::connect(addr)).await??;
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
        .await?;
    let mut answer = String::new();
    timeout(LONG, stream.read_to_string(&mut answer)).await??;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
    Ok((head.to_owned(), body.to_owned()))
}

/// Waits until `body` is true.
pub(crate) async fn until<F: Future<Output = bool>>(mut body: impl FnMut() -> F) {
    let waiting = async {
        while !body().await {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, waiting).await.unwrap();
}
