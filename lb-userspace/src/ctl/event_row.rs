//! An event as it is shown.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lb_common::{Addr4, Addr6, Address as _, Effect, EventRecord, Point, Port, Proto, Reason, SockCall};
use serde::Serialize;

use super::event_names::Names;
use super::out::Row;
use super::text;
use super::view::proto_text;
use crate::counts;

/// One packet that was dropped or refused, or one refused socket call.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct EventRow {
    number: u64,
    time: String,
    effect: &'static str,
    reason: &'static str,
    text: &'static str,
    /// The hook, or the socket call.
    point: &'static str,
    #[serde(flatten)]
    from: From,
    proto: String,
    address: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(flatten)]
    service: Option<Service>,
    #[serde(flatten)]
    backend: Option<Towards>,
    /// Events of the same CPU that were not recorded before this one.
    suppressed: u32,
    /// Records that were overwritten before they were read, right before this one.
    overwritten: u64,
}

/// Whom it comes from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(untagged)]
enum From {
    Packet {
        source: IpAddr,
        #[serde(skip_serializing_if = "Option::is_none")]
        source_port: Option<u16>,
        #[serde(skip_serializing_if = "Option::is_none")]
        tcp_flags: Option<String>,
        length: u32,
        ifindex: u32,
        /// Absent if the interface is gone, or in another network namespace.
        #[serde(skip_serializing_if = "Option::is_none")]
        interface: Option<String>,
    },
    Call {
        pid: u32,
        command: String,
        cookie: u64,
    },
}

/// The Service that has the address; the name of its port too, if that is one of its ports.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct Service {
    namespace: String,
    service: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    port_name: Option<String>,
}

/// The endpoint towards which there was no source port; absent if that is not the reason, or it has gone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct Towards {
    backend: IpAddr,
    backend_port: u16,
}

/// The address that was written as 16 bytes.
fn address(addr: Addr6) -> IpAddr {
    Addr4::from_mapped(&addr).map_or_else(|| addr.into(), IpAddr::from)
}

/// A port, where the protocol has ports and the packet showed them.
fn port(port: Port) -> Option<u16> {
    Some(port.number()).filter(|port| *port != 0)
}

fn tcp_flags(flags: u8) -> String {
    const NAMES: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
    let set = NAMES.iter().enumerate().filter(|(bit, _)| flags >> bit & 1 != 0);
    set.map(|(_, name)| *name).collect::<Vec<_>>().join(",")
}

impl EventRow {
    /// What `record` says; `None` if it is of a reason that this build does not know.
    pub(super) fn new(record: &EventRecord, overwritten: u64, names: &Names) -> Option<Self> {
        let reason = Reason::from_number(record.reason)?;
        let time = SignedDuration::try_from(names.epoch + Duration::from_nanos(record.time)).ok()?;
        let time = Timestamp::from_duration(time).ok()?;
        let call = SockCall::from_number(record.point);
        let point = Point::from_number(record.point).map(Point::name).or(call.map(SockCall::name));
        let from = match call {
            Some(_) => {
                From::Call { pid: record.party, command: counts::string(&record.comm), cookie: record.cookie }
            }
            None => From::Packet {
                source: address(record.src),
                source_port: port(record.sport),
                tcp_flags: (record.proto == Proto::Tcp as u8).then(|| tcp_flags(record.flags)),
                length: record.length,
                ifindex: record.ifindex,
                interface: names.interfaces.get(&record.ifindex).cloned(),
            },
        };
        let to = address(record.dst);
        let service = names.service(to, record.dport.number(), record.proto);
        let backend = backend_of(record).and_then(|id| names.backends.get(&id));
        Some(Self {
            number: record.sequence,
            time: format!("{time:.3}"),
            effect: reason.effect().name(),
            reason: reason.name(),
            text: reason.text(),
            point: point.unwrap_or("unknown"),
            from,
            proto: proto_text(record.proto),
            address: to,
            port: port(record.dport),
            service: service.map(|(name, exact)| Service {
                namespace: name.namespace.clone(),
                service: name.name.clone(),
                port_name: exact.then(|| name.port_name.clone()),
            }),
            backend: backend.map(|at| Towards { backend: at.ip(), backend_port: at.port() }),
            suppressed: record.suppressed,
            overwritten,
        })
    }

    /// Whether one end has this address.
    pub(super) fn touches(&self, address: IpAddr) -> bool {
        let source = match &self.from {
            From::Packet { source, .. } => Some(*source),
            From::Call { .. } => None,
        };
        self.address == address || source == Some(address)
    }

    /// Whether it is about a Service of this name.
    pub(super) fn is_of(&self, is: impl Fn(&str, &str) -> bool) -> bool {
        self.service.as_ref().is_some_and(|service| is(&service.namespace, &service.service))
    }

    pub(super) fn is_for(&self, reason: Reason) -> bool {
        self.reason == reason.name()
    }
}

/// The id of the backend that `record` names.
pub(super) fn backend_of(record: &EventRecord) -> Option<u32> {
    (record.reason == Reason::SnatPortsExhausted as u8).then_some(record.party)
}

/// Reasons whose packets or calls are recorded.
pub(super) fn recorded() -> impl Iterator<Item = Reason> {
    Reason::ALL.iter().copied().filter(|reason| matches!(reason.effect(), Effect::Drop | Effect::Reject))
}

fn end(address: IpAddr, port: Option<u16>) -> String {
    match port {
        Some(port) => SocketAddr::new(address, port).to_string(),
        None => address.to_string(),
    }
}

impl Row for EventRow {
    const COLUMNS: &'static [&'static str] =
        &["TIME", "EFFECT", "REASON", "WHERE", "FROM", "TO", "PROTO", "SERVICE", "MEANING"];

    fn cells(&self) -> Vec<String> {
        let (place, from) = match &self.from {
            From::Packet { source, source_port, interface, ifindex, .. } => {
                let interface = interface.clone().unwrap_or_else(|| format!("ifindex {ifindex}"));
                (format!("{} {interface}", self.point), end(*source, *source_port))
            }
            From::Call { pid, command, .. } => (self.point.to_owned(), format!("{command}[{pid}]")),
        };
        let service = self.service.as_ref();
        let mut meaning = self.text.to_owned();
        if let Some(Towards { backend, backend_port }) = self.backend {
            meaning += &format!(" (Towards {}.)", SocketAddr::new(backend, backend_port));
        }
        if self.suppressed > 0 {
            meaning += &format!(" ({} before it were not recorded: --event-rate)", self.suppressed);
        }
        if self.overwritten > 0 {
            meaning += &format!(" ({} before it were overwritten)", self.overwritten);
        }
        vec![
            self.time.clone(),
            self.effect.to_owned(),
            self.reason.to_owned(),
            place,
            from,
            end(self.address, self.port),
            self.proto.clone(),
            text::or_none(service.map(|service| format!("{}/{}", service.namespace, service.service))),
            meaning,
        ]
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::counts::PortName;
    use crate::ctl::tests::documented;

    fn names() -> Names {
        let web = PortName {
            namespace: "shop".to_owned(),
            name: "web".to_owned(),
            port_name: "http".to_owned(),
            port: 80,
            proto: 6,
            family: 4,
        };
        let mut names = Names::default();
        names.epoch = Duration::from_secs(1_700_000_000);
        names.interfaces.insert(7, "veth7".to_owned());
        names.add(([10, 96, 0, 1].into(), 80, 6), web);
        names
    }

    fn packet() -> EventRecord {
        EventRecord {
            sequence: 9,
            time: 1_234_567_890,
            suppressed: 3,
            ifindex: 7,
            length: 60,
            src: Addr4([10, 0, 0, 1]).to_mapped(),
            dst: Addr4([10, 96, 0, 1]).to_mapped(),
            sport: Port::new(4000),
            dport: Port::new(80),
            reason: Reason::NoEndpoints as u8,
            point: Point::PodIngress as u8,
            proto: 6,
            flags: 0b10_0010,
            ..EventRecord::default()
        }
    }

    fn call() -> EventRecord {
        EventRecord {
            sequence: 10,
            suppressed: 0,
            party: 42,
            cookie: 5,
            comm: *b"curl\0\0\0\0\0\0\0\0\0\0\0\0",
            reason: Reason::SockPortNotServed as u8,
            point: SockCall::Connect as u8,
            dport: Port::new(81),
            src: Addr6::default(),
            sport: Port::default(),
            ..packet()
        }
    }

    #[test]
    fn a_packet_is_shown_with_its_ends_and_its_service() {
        let row = EventRow::new(&packet(), 4, &names()).unwrap();
        assert_eq!(serde_json::to_value(&row).unwrap(), documented("event list")[0]);
        let cells = row.cells();
        assert_eq!(cells[3..8], ["pod-ingress veth7", "10.0.0.1:4000", "10.96.0.1:80", "TCP", "shop/web"]);
        assert!(
            cells[8]
                .ends_with("(3 before it were not recorded: --event-rate) (4 before it were overwritten)")
        );
    }

    #[test]
    fn a_call_is_shown_with_its_process_and_the_service_whose_port_was_missed() {
        let row = EventRow::new(&call(), 0, &names()).unwrap();
        let json = serde_json::to_value(&row).unwrap();
        assert_eq!(json, documented("event list")[1]);
        assert_eq!((json["service"].as_str(), json.get("port_name")), (Some("web"), None));
        assert_eq!((json.get("source"), json.get("ifindex")), (None, None));
        assert_eq!(row.cells()[3..8], ["connect", "curl[42]", "10.96.0.1:81", "TCP", "shop/web"]);
    }

    #[test]
    fn what_has_no_ports_and_no_name_is_shown_too() {
        let record =
            EventRecord { proto: 1, sport: Port::default(), dport: Port::default(), ifindex: 8, ..packet() };
        let row = EventRow::new(&record, 0, &Names::default()).unwrap();
        assert_eq!(row.cells()[3..8], ["pod-ingress ifindex 8", "10.0.0.1", "10.96.0.1", "1", text::NONE]);
        let json = serde_json::to_value(&row).unwrap();
        for absent in ["port", "source_port", "tcp_flags", "interface", "service", "namespace"] {
            assert_eq!(json.get(absent), None, "{absent}");
        }
        assert!(
            EventRow::new(&EventRecord { reason: 255, ..packet() }, 0, &names()).is_none(),
            "of a later build"
        );
    }

    #[test]
    fn the_backend_is_named_whose_source_ports_are_used_up() {
        let mut names = names();
        names.backends.insert(4, SocketAddr::from(([10, 1, 0, 2], 8080)));
        let record =
            EventRecord { reason: Reason::SnatPortsExhausted as u8, party: 4, suppressed: 0, ..packet() };
        let row = EventRow::new(&record, 0, &names).unwrap();
        assert_eq!(serde_json::to_value(&row).unwrap(), documented("event list")[2]);
        assert!(row.cells()[8].ends_with("(Towards 10.1.0.2:8080.)"), "{:?}", row.cells());
        let gone = EventRow::new(&EventRecord { party: 5, ..record }, 0, &names).unwrap();
        assert_eq!(serde_json::to_value(&gone).unwrap().get("backend"), None);
    }

    #[test]
    fn only_drops_and_refusals_are_recorded() {
        assert!(recorded().any(|reason| reason == Reason::NoEndpoints));
        assert!(!recorded().any(|reason| reason == Reason::FlowOpened));
    }

    /// For the test of the filters beside this file.
    pub(in crate::ctl) fn rows() -> [EventRow; 2] {
        [packet(), call()].map(|record| EventRow::new(&record, 0, &names()).unwrap())
    }
}
