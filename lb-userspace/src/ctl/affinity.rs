//! `sluice affinity`.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::bail;
use lb_common::{
    Addr4, Address as _, AffinityKey, AffinityWord, BackendRecord, BackendWord, ServiceRecord, backend_flags,
    maps, service_flags,
};
use serde::Serialize;

use super::Context;
use super::args::{Name, Named};
use super::out::{Out, Row};
use super::target::ServiceName;
use super::text;
use super::view::{address, family_text, proto_text};
use crate::bpf::map::{Array, Hash};
use crate::bpf::pin::PinDir;
use crate::counts::flows::now;
use crate::counts::{self, PortName};

const EXAMPLES: &str = "\
Examples:
  sluice affinity                        which client keeps which endpoint
  sluice affinity show 10.1.0.4          those of one client
  sluice -j affinity --service shop/web  those of one Service

A client of a Service with `sessionAffinity: ClientIP` keeps its endpoint until it has opened no
connection for the Service's timeout, or the endpoint is no longer usable.";

impl Name for IpAddr {
    const VALUE: &'static str = "CLIENT";
    const HELP: &'static str = "Address of a client";
}

#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    named: Named<IpAddr>,
    /// Of this Service
    #[arg(long, global = true, value_name = "NS/NAME")]
    service: Option<ServiceName>,
    /// Of this client
    #[arg(long, global = true, value_name = "IP")]
    client: Option<IpAddr>,
}

/// The endpoint that a client keeps at a Service port.
#[derive(PartialEq, Eq, Debug, Serialize)]
struct AffinityRow {
    client: IpAddr,
    namespace: String,
    service: String,
    port_name: String,
    port: u16,
    proto: String,
    family: &'static str,
    backend: IpAddr,
    backend_port: u16,
    /// Time since the client last opened a connection.
    idle_seconds: u64,
    /// Until it is forgotten, unless the client opens another one before.
    expires_seconds: u64,
}

impl Row for AffinityRow {
    const COLUMNS: &'static [&'static str] =
        &["CLIENT", "NAMESPACE", "SERVICE", "PORT", "BACKEND", "IDLE", "EXPIRES"];

    fn cells(&self) -> Vec<String> {
        let duration = |seconds| text::duration(Duration::from_secs(seconds));
        vec![
            self.client.to_string(),
            self.namespace.clone(),
            self.service.clone(),
            text::port(&self.port_name, self.port, &self.proto),
            SocketAddr::new(self.backend, self.backend_port).to_string(),
            duration(self.idle_seconds),
            duration(self.expires_seconds),
        ]
    }
}

/// A Service port with session affinity.
struct Port {
    name: PortName,
    timeout: u32,
    /// The [`backend_flags`] of endpoints that it may use.
    member: u32,
}

impl Port {
    /// `None` if the Service port has no session affinity (any more).
    fn new(name: PortName, flags: u64) -> Option<Self> {
        let timeout = service_flags::affinity(flags);
        let local = flags & service_flags::INTERNAL_LOCAL != 0;
        let member = if local { backend_flags::LOCAL } else { backend_flags::CLUSTER };
        (timeout > 0).then_some(Self { name, timeout, member })
    }

    /// What `word` says of `client`; `None` if the datapath would choose anew: the time is over, or the backend is no
    /// longer usable or not even the same.
    fn row(
        &self,
        key: &AffinityKey,
        word: AffinityWord,
        backend: &BackendRecord,
        now: u64,
    ) -> Option<AffinityRow> {
        let is = BackendWord(backend.word);
        let same = word.is_of(is.generation()) && backend.service == key.service;
        if word.is_over(self.timeout, now) || !same || !is.has(self.member) {
            return None;
        }
        let PortName { namespace, name, port_name, port, proto, family } = self.name.clone();
        let idle = Duration::from_nanos(word.idle(now)).as_secs();
        Some(AffinityRow {
            client: Addr4::from_mapped(&key.client).map_or_else(|| key.client.into(), IpAddr::from),
            namespace,
            service: name,
            port_name,
            port,
            proto: proto_text(proto),
            family: family_text(family),
            backend: address(backend),
            backend_port: backend.port.number(),
            idle_seconds: idle,
            expires_seconds: u64::from(self.timeout).saturating_sub(idle),
        })
    }
}

/// The Service ports with session affinity by id.
fn read_ports(pins: &PinDir) -> anyhow::Result<HashMap<u32, Port>> {
    let records = Array::<ServiceRecord>::open(pins, maps::SERVICES_MAP)?;
    let mut ports = HashMap::new();
    for (id, meta) in counts::names(pins)? {
        if let Some(port) = Port::new(PortName::of(&meta), records.get(id)?.flags) {
            ports.insert(id, port);
        }
    }
    Ok(ports)
}

impl Args {
    pub(super) fn run(&self, context: &Context, out: &mut Out<'_>) -> anyhow::Result<()> {
        let pins = context.datapath()?;
        let ports = read_ports(pins)?;
        let backends = Array::<BackendRecord>::open(pins, maps::BACKENDS_MAP)?;
        let now = u64::try_from(now().as_nanos()).unwrap_or(u64::MAX);
        let mut rows = Vec::new();
        for entry in Hash::<AffinityKey, AffinityWord>::open(pins, maps::AFFINITY)?.entries() {
            let (key, word) = entry?;
            let Some(port) = ports.get(&key.service).filter(|port| self.wants(&port.name)) else { continue };
            let backend = backends.get(word.backend())?;
            rows.extend(port.row(&key, word, &backend, now).filter(|row| self.takes(row)));
        }
        rows.sort_by(|a, b| {
            let key = |row: &AffinityRow| (row.client, row.port);
            key(a).cmp(&key(b)).then_with(|| (&a.namespace, &a.service).cmp(&(&b.namespace, &b.service)))
        });
        if let (Some(client), true) = (self.named.name(), rows.is_empty()) {
            bail!("no Service remembers a client {client}: see `sluice affinity list`");
        }
        out.list(rows.into_iter().map(Ok))
    }

    fn wants(&self, port: &PortName) -> bool {
        self.service.as_ref().is_none_or(|service| service.is(port))
    }

    fn takes(&self, row: &AffinityRow) -> bool {
        self.client.iter().chain(self.named.name()).all(|client| *client == row.client)
    }
}

#[cfg(test)]
mod tests {
    use lb_common::Port as Number;

    use super::*;
    use crate::ctl::tests::documented;

    const SECOND: u64 = 1_000_000_000;
    const FLAGS: u64 = service_flags::with_affinity(0, 60);

    fn port(flags: u64) -> Option<Port> {
        let (namespace, name) = ("shop".to_owned(), "web".to_owned());
        let name = PortName { namespace, name, port_name: "http".to_owned(), port: 80, proto: 6, family: 4 };
        Port::new(name, flags)
    }

    fn key() -> AffinityKey {
        AffinityKey { client: Addr4([10, 0, 0, 1]).to_mapped(), service: 4 }
    }

    fn backend(generation: u32, flags: u32) -> BackendRecord {
        BackendRecord {
            word: BackendWord::new(generation, flags).0,
            service: 4,
            family: 4,
            port: Number::new(8080),
            addr: Addr4([10, 0, 0, 2]).to_mapped(),
            ..BackendRecord::default()
        }
    }

    /// What is shown 20.5 s after the client's last connection.
    fn row(flags: u64, backend: &BackendRecord) -> Option<AffinityRow> {
        let word = AffinityWord::new(7, 3, 100 * SECOND);
        port(flags)?.row(&key(), word, backend, 120 * SECOND + SECOND / 2)
    }

    #[test]
    fn a_client_is_shown_with_its_endpoint_and_how_long_it_keeps_it() {
        let row = row(FLAGS, &backend(3, backend_flags::CLUSTER)).unwrap();
        assert_eq!(serde_json::to_value(&row).unwrap(), documented("affinity list")[0]);
        assert_eq!(row.cells(), ["10.0.0.1", "shop", "web", "http:80/TCP", "10.0.0.2:8080", "20s", "40s"]);
    }

    #[test]
    fn b64_b65_what_the_datapath_would_not_go_by_is_not_shown() {
        let cluster = backend(3, backend_flags::CLUSTER);
        let local = backend(3, backend_flags::LOCAL);
        let policy = FLAGS | service_flags::INTERNAL_LOCAL;
        assert!(row(0, &cluster).is_none(), "no affinity any more");
        assert!(row(service_flags::with_affinity(0, 15), &cluster).is_none(), "over");
        assert!(row(FLAGS, &backend(4, backend_flags::CLUSTER)).is_none(), "another generation");
        assert!(row(FLAGS, &BackendRecord { service: 5, ..cluster }).is_none(), "of another Service");
        assert!(row(FLAGS, &backend(3, backend_flags::SERVING)).is_none(), "draining");
        assert!(row(policy, &cluster).is_none() && row(policy, &local).is_some(), "the policy's scope");
    }
}
