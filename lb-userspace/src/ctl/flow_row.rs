//! A connection as it is shown.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lb_common::{Address, FlowValue, FlowWord, Point, Port, Proto};
use lb_ebpf::env::FlowTable;
use lb_ebpf::flow::Phase;
use serde::Serialize;

use super::out::Row;
use super::text;
use super::view::{Traffic, proto_text};
use crate::counts::PortName;
use crate::counts::flows::Forward;

/// One connection, both halves.
#[derive(PartialEq, Debug, Serialize)]
pub(super) struct FlowRow {
    proto: String,
    client: IpAddr,
    client_port: u16,
    address: IpAddr,
    port: u16,
    backend: IpAddr,
    backend_port: u16,
    /// As the backend sees the client.
    source: IpAddr,
    source_port: u16,
    state: &'static str,
    idle_seconds: u64,
    #[serde(flatten)]
    traffic: Traffic,
    point: &'static str,
    table: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port_name: Option<String>,
}

impl FlowRow {
    pub(super) fn new<A: Address>(
        flow: &Forward<A>,
        reverse: Option<&FlowValue<A>>,
        name: Option<&PortName>,
        now: Duration,
    ) -> Self {
        let (key, value) = (&flow.key, &flow.value);
        let seen = value.seen.max(reverse.map_or(0, |reverse| reverse.seen));
        Self {
            proto: proto_text(key.proto),
            client: key.tuple.src.into(),
            client_port: key.tuple.sport.number(),
            address: key.tuple.dst.into(),
            port: key.tuple.dport.number(),
            backend: value.tuple.dst.into(),
            backend_port: value.tuple.dport.number(),
            source: value.tuple.src.into(),
            source_port: value.tuple.sport.number(),
            state: state(key.proto, value.word, reverse.map_or(0, |reverse| reverse.word)),
            idle_seconds: now.saturating_sub(Duration::from_nanos(seen)).as_secs(),
            traffic: Traffic {
                packets_in: value.packets,
                bytes_in: value.bytes,
                packets_out: reverse.map_or(0, |reverse| reverse.packets),
                bytes_out: reverse.map_or(0, |reverse| reverse.bytes),
            },
            point: Point::from_number(value.point).map_or("unknown", Point::name),
            table: match flow.table {
                FlowTable::Main => "main",
                FlowTable::Lru => "lru",
            },
            namespace: name.map(|name| name.namespace.clone()),
            service: name.map(|name| name.name.clone()),
            port_name: name.map(|name| name.port_name.clone()),
        }
    }
}

fn state(proto: u8, forward: u64, reverse: u64) -> &'static str {
    let (forward, reverse) = (FlowWord(forward).state(), FlowWord(reverse).state());
    if forward.ends() {
        return "dead";
    }
    Proto::from_number(proto).map_or("unknown", |proto| Phase::of(proto, forward, reverse).name())
}

pub(super) fn endpoint<A: Address>(addr: A, port: Port) -> SocketAddr {
    SocketAddr::new(addr.into(), port.number())
}

impl Row for FlowRow {
    const COLUMNS: &'static [&'static str] = &[
        "PROTO",
        "CLIENT",
        "ADDRESS",
        "BACKEND",
        "SOURCE",
        "STATE",
        "IDLE",
        "PKTS-IN",
        "BYTES-IN",
        "PKTS-OUT",
        "BYTES-OUT",
        "POINT",
        "TABLE",
        "SERVICE",
    ];

    fn cells(&self) -> Vec<String> {
        let same = self.source == self.client;
        vec![
            self.proto.clone(),
            SocketAddr::new(self.client, self.client_port).to_string(),
            SocketAddr::new(self.address, self.port).to_string(),
            SocketAddr::new(self.backend, self.backend_port).to_string(),
            if same {
                self.source_port.to_string()
            } else {
                SocketAddr::new(self.source, self.source_port).to_string()
            },
            self.state.to_owned(),
            text::duration(Duration::from_secs(self.idle_seconds)),
            self.traffic.packets_in.to_string(),
            self.traffic.bytes_in.to_string(),
            self.traffic.packets_out.to_string(),
            self.traffic.bytes_out.to_string(),
            self.point.to_owned(),
            self.table.to_owned(),
            text::or_none(
                self.namespace
                    .as_ref()
                    .zip(self.service.as_ref())
                    .map(|(namespace, name)| format!("{namespace}/{name}")),
            ),
        ]
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ctl::out::{Format, Out};
    use crate::ctl::tests::documented;
    use lb_common::{Addr4, FlowKey, FlowKind, FlowState, Tuple};

    const SECOND: u64 = 1_000_000_000;

    fn addr(last: u8) -> Addr4 {
        Addr4([10, 0, 0, last])
    }

    /// 10.0.0.1:4000 to 10.0.0.96:80, translated to 10.0.0.2:8080, and the opposite half.
    pub(in crate::ctl) fn pair(forward: u8, reverse: u8) -> (Forward<Addr4>, FlowValue<Addr4>) {
        let key = Tuple { src: addr(1), dst: addr(96), sport: Port::new(4000), dport: Port::new(80) };
        let tuple = Tuple { dst: addr(2), dport: Port::new(8080), ..key };
        let value = FlowValue {
            word: FlowWord::new(1, 7, forward).0,
            seen: 10 * SECOND,
            packets: 3,
            bytes: 300,
            tuple,
            point: Point::PodIngress as u8,
            kind: FlowKind::Forward as u8,
            ..FlowValue::default()
        };
        let other = FlowValue {
            word: FlowWord::new(1, 7, reverse).0,
            seen: 40 * SECOND,
            packets: 2,
            bytes: 2000,
            tuple: key.reverse(),
            kind: FlowKind::Reverse as u8,
            ..FlowValue::default()
        };
        let key = FlowKey::new(key, Proto::Tcp as u8);
        (Forward { table: FlowTable::Main, key, value }, other)
    }

    pub(in crate::ctl) fn name() -> PortName {
        PortName {
            namespace: "shop".to_owned(),
            name: "web".to_owned(),
            port_name: String::new(),
            port: 80,
            proto: 6,
            family: 4,
        }
    }

    fn row(forward: u8, reverse: u8) -> FlowRow {
        let (flow, other) = pair(forward, reverse);
        FlowRow::new(&flow, Some(&other), Some(&name()), Duration::from_secs(100))
    }

    #[test]
    fn both_halves_are_one_connection() {
        let row = row(FlowState::SYN | FlowState::DATA, FlowState::SYN | FlowState::DATA);
        assert_eq!(serde_json::to_value(&row).unwrap(), documented("flow list")[0]);
        let mut text = Vec::new();
        Out::to(Format::Text, &mut text).list([Ok(row)]).unwrap();
        let text = String::from_utf8(text).unwrap();
        let cells: Vec<_> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(
            cells,
            [
                "TCP",
                "10.0.0.1:4000",
                "10.0.0.96:80",
                "10.0.0.2:8080",
                "4000",
                "established",
                "1m0s",
                "3",
                "300",
                "2",
                "2000",
                "pod-ingress",
                "main",
                "shop/web"
            ]
        );
    }

    #[test]
    fn a_connection_without_its_other_half_or_its_service_is_shown_too() {
        let (flow, _) = pair(FlowState::SYN, 0);
        let row = FlowRow::new(&flow, None, None, Duration::from_secs(5));
        assert_eq!((row.state, row.idle_seconds, row.traffic.packets_out), ("syn_sent", 0, 0));
        assert!(serde_json::to_value(&row).unwrap().get("service").is_none());
        assert_eq!(row.cells().last().unwrap(), text::NONE);
    }

    #[test]
    fn a_masqueraded_source_is_shown_whole() {
        let (mut flow, _) = pair(0, 0);
        flow.value.tuple.src = addr(250);
        let row = FlowRow::new(&flow, None, None, Duration::ZERO);
        assert_eq!(row.cells()[4], "10.0.0.250:4000");
    }

    #[test]
    fn states_have_the_names_of_the_datapath() {
        assert_eq!(row(FlowState::SYN, FlowState::RST).state, "close");
        assert_eq!(row(FlowState::FIN, FlowState::FIN).state, "time_wait");
        assert_eq!(row(FlowState::DEAD, 0).state, "dead");
    }
}
