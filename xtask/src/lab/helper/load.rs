//! Requests in the background: HTTP, each by a connection of its own, some clients at once.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::super::now_ns;
use super::wire::{Answer, Load, LoadReport};

const LIMIT: Duration = Duration::from_secs(4);

/// A load that runs.
pub(super) struct Running {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<Request>>>,
}

/// One request: when it was started, and who answered or what went wrong.
type Request = (u64, Result<String, String>);

impl Running {
    /// Starts the clients.
    pub(super) fn start(load: &Load) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let pause = Duration::from_secs(1) * load.clients / load.rate.max(1);
        let clients = (0..load.clients).map(|index| {
            let (to, stop) = (load.to, Arc::clone(&stop));
            // Clients start one after the other, or they would all send at the same moments.
            let first = Instant::now() + pause * index / load.clients;
            thread::spawn(move || client(to, first, pause, &stop))
        });
        Self { clients: clients.collect(), stop }
    }

    /// Ends the clients, each after the request that it is at.
    pub(super) fn stop(self) -> LoadReport {
        self.stop.store(true, Ordering::Relaxed);
        let mut report = LoadReport::default();
        for (start, outcome) in self.clients.into_iter().flat_map(|client| client.join().unwrap_or_default())
        {
            match outcome {
                Ok(pod) => {
                    let index = report.pods.iter().position(|known| *known == pod).unwrap_or_else(|| {
                        report.pods.push(pod);
                        report.pods.len() - 1
                    });
                    report.answered.push((start, index));
                }
                Err(error) => report.failed.push((start, error)),
            }
        }
        report
    }
}

/// Sends at fixed times, and at once where the answer before came late.
fn client(to: SocketAddr, mut next: Instant, pause: Duration, stop: &AtomicBool) -> Vec<Request> {
    let mut requests = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(next.saturating_duration_since(Instant::now()));
        next += pause;
        requests.push((now_ns(), get(to).map_err(|error| error.to_string())));
    }
    requests
}

/// One request over a new connection; the name of the pod that answered.
fn get(to: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: python-api\r\nConnection: close\r\n\r\n")?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    let Some((head, body)) = response.split_once("\r\n\r\n") else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    match head.split(' ').nth(1) {
        Some("200") => Ok(serde_json::from_str::<Answer>(body)?.pod),
        _ => Err(io::Error::other(head.lines().next().unwrap_or_default().to_owned())),
    }
}
