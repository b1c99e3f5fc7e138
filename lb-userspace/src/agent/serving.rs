//! The flags that say where the agent answers, and the servers.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use anyhow::Context as _;
use tokio::net::TcpListener;

use crate::health::Health;
use crate::http::{self, Board};
use crate::metrics::Metrics;
use crate::tasks::Tasks;

/// Where the agent answers.
#[derive(clap::Args, Clone, Debug)]
pub struct Serving {
    /// Address of `/healthz` and `/livez`; empty: none
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:10256")]
    pub healthz_bind_address: Bind<10256>,

    /// Address of `/metrics`, `/healthz`, `/proxyMode` and `/configz`; empty: none
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:10249")]
    pub metrics_bind_address: Bind<10249>,

    /// End if one of these addresses cannot be had, rather than to try again
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set, value_name = "BOOL", hide_default_value = true, hide_possible_values = true)]
    pub bind_address_hard_fail: bool,
}

/// An address to listen at, or none. Without a port it is `PORT`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bind<const PORT: u16>(pub Option<SocketAddr>);

impl<const PORT: u16> FromStr for Bind<PORT> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self(None));
        }
        let addr = text.parse().or_else(|_| text.parse().map(|ip: IpAddr| SocketAddr::new(ip, PORT)));
        addr.map(|addr| Self(Some(addr))).map_err(|_| {
            "IP:PORT is wanted, an IPv6 address in brackets: 0.0.0.0:10256, [::]:10256; or nothing".to_owned()
        })
    }
}

impl<const PORT: u16> fmt::Display for Bind<PORT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |addr| addr.fmt(f))
    }
}

/// The sockets of the servers; `None` where there is no server, or its address cannot be had now.
pub(super) struct Sockets {
    health: Option<TcpListener>,
    metrics: Option<TcpListener>,
}

impl Serving {
    /// Listens, before anything else is done, within a tokio runtime.
    ///
    /// # Errors
    /// An address cannot be had, and that shall be an error (B95).
    pub(super) fn listen(&self) -> anyhow::Result<Sockets> {
        let listen = |name, addr: Option<SocketAddr>| {
            let listener =
                addr.map(|addr| http::bind(addr, false).with_context(|| format!("{name} {addr}: listen")));
            if self.bind_address_hard_fail { listener.transpose() } else { Ok(listener.and_then(Result::ok)) }
        };
        Ok(Sockets {
            health: listen("--healthz-bind-address", self.healthz_bind_address.0)?,
            metrics: listen("--metrics-bind-address", self.metrics_bind_address.0)?,
        })
    }

    /// Serves from now on. What goes wrong stands on `board`.
    pub(super) fn serve(
        &self,
        sockets: Sockets,
        health: &Health,
        metrics: Metrics,
        board: &Board,
        tasks: &mut Tasks,
    ) {
        if let Some(addr) = self.healthz_bind_address.0 {
            let (health, board) = (health.clone(), board.clone());
            tasks.spawn("the server of /healthz", async move {
                let answer = move |path: String| {
                    let answer = health.answer(&path);
                    async move { answer }
                };
                http::keep("--healthz-bind-address", addr, sockets.health, &board, answer).await;
            });
        }
        if let Some(addr) = self.metrics_bind_address.0 {
            let board = board.clone();
            tasks.spawn("the server of /metrics", async move {
                let answer = move |path| metrics.clone().answer(path);
                http::keep("--metrics-bind-address", addr, sockets.metrics, &board, answer).await;
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b90_b94_addresses_are_read_as_kube_proxy_reads_them() {
        for (text, expected) in [
            ("", Some("")),
            ("127.0.0.1:1", Some("127.0.0.1:1")),
            ("0.0.0.0", Some("0.0.0.0:10256")),
            ("::", Some("[::]:10256")),
            ("[::1]:80", Some("[::1]:80")),
            ("localhost:80", None),
            (":80", None),
            ("1.2.3.4:70000", None),
        ] {
            let read: Result<Bind<10256>, _> = text.parse();
            assert_eq!(read.ok().map(|bind| bind.to_string()).as_deref(), expected, "{text}");
        }
    }
}
