//! Plain HTTP, as probes and scrapers speak it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

use super::Space;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

impl Space {
    /// Status and body of the answer at `path` of `to`.
    ///
    /// # Errors
    /// When nobody listens there, or the answer is none.
    pub fn get(&self, to: SocketAddr, path: &str) -> Result<(u16, String)> {
        self.within(|| {
            let mut stream = TcpStream::connect(to).with_context(|| format!("connect to {to}"))?;
            stream.set_read_timeout(Some(PATIENCE)).context("set a timeout")?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n")
                .context("send a request")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).context("read the answer")?;
            let (head, body) = answer.split_once("\r\n\r\n").context("an answer without a body")?;
            let status = head.split(' ').nth(1).context("an answer without a status")?;
            Ok((status.parse().context("an answer without a status")?, body.to_owned()))
        })
    }
}

/// The value of the sample that is called `sample`, with its labels, among what `/metrics` says.
#[must_use]
pub fn sample(metrics: &str, sample: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
}
