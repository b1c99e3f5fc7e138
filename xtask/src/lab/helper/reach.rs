//! Connections that are tried until somebody answers.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;

use super::super::now_ns;
use super::client;
use super::wire::{Answer, Failure, Reach, Reached};

/// How long the handshake may take: what is not translated yet goes nowhere, and the next one may be.
const HANDSHAKE: Duration = Duration::from_millis(10);

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(1);

/// Tries each address until it is answered as it should be.
pub(super) fn reach(wanted: &Reach) -> Result<Reached, Failure> {
    let Reach { to, pod, pause_us, limit_ms } = wanted;
    let (pause, limit) = (Duration::from_micros(*pause_us), Duration::from_millis(*limit_ms));
    let begun = Instant::now();
    let mut tries = 0;
    for to in to {
        loop {
            let next = Instant::now() + pause;
            tries += 1;
            let last = match ask_once(*to) {
                Ok(answer) if pod.as_ref().is_none_or(|pod| *pod == answer.pod) => break,
                Ok(answer) => format!("answered by {}", answer.pod),
                Err(error) => error.to_string(),
            };
            if begun.elapsed() > limit {
                let error = io::Error::new(io::ErrorKind::TimedOut, last);
                return Err(Failure::new(&format!("reach {to}"), &error, begun));
            }
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }
    Ok(Reached { at: now_ns(), tries })
}

fn ask_once(to: SocketAddr) -> io::Result<Answer> {
    let stream = TcpStream::connect_timeout(&to, HANDSHAKE)?;
    stream.set_read_timeout(Some(ANSWER))?;
    // Reset rather than closed: thousands of connections would wait in TIME_WAIT until no port is left.
    set_socket_linger(&stream, Some(Duration::ZERO))?;
    client::ask(&OwnedFd::from(stream), None)
}
