//! Node ports, external addresses, load balancers, and who may use them.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Instant;

use lb_common::address_flags::{HELD, NODE_PORTS};
use lb_common::{AddressKind, AddressValue, FrontendKind, service_flags};
use lb_userspace::model::{External, Range, ServicePort};
use lb_userspace::plan::{Capacity, Own};
use lb_userspace::reconcile::{Change, Reconciler};
use lb_userspace::tables::{Fake, Fault, Faulty, Tables};

use crate::order::{empty, turn_at};
use crate::support::{
    Desired, NODE, ROOMY, check, endpoints, key, replace, service, settle, started, update, views_of,
};

/// The Service port of [`service`], reached from outside too: words are `node:30080`, `ip:192.0.2.1`, `lb:192.0.2.2`,
/// `from:10.0.0.0/8`, `local`.
fn reached(frontend: &str, ready: &[&str], words: &str) -> ServicePort {
    let mut external = External::default();
    for word in words.split_whitespace() {
        let (what, value) = word.split_once(':').unwrap_or((word, ""));
        match what {
            "node" => external.node_port = NonZeroU16::new(value.parse().unwrap()),
            "ip" => external.external_ips.push(value.parse().unwrap()),
            "lb" => external.load_balancer_ips.push(value.parse().unwrap()),
            "local" => external.local = true,
            "from" => external.source_ranges.get_or_insert_default().push(range(value)),
            _ => panic!("{word}"),
        }
    }
    ServicePort { external: Some(Box::new(external)), ..service(frontend, ready) }
}

fn range(text: &str) -> Range {
    let (addr, bits) = text.split_once('/').unwrap();
    Range { addr: addr.parse().unwrap(), bits: bits.parse().unwrap() }
}

/// A Service port that is reached in ever other ways, beside one that takes over what it gives up; in both families.
pub(crate) fn reached_from_outside() -> Vec<Desired> {
    let state = |a: &str, b: &str| {
        let (a6, b6) = (a.replace("192.0.2.", "fd02::"), b.replace("192.0.2.", "fd02::"));
        let (a6, b6) = (a6.replace("10.0.0.0/8", "fd09::/16"), b6.replace("10.0.0.0/8", "fd09::/16"));
        let mut local = reached("10.0.0.1:80", &["10.1.0.1:8080", "10.1.0.2:8080"], a);
        local.local = endpoints(&["10.1.0.2:8080"]);
        Desired::from([
            (key("a", "10.0.0.1:80"), local),
            (key("b", "10.0.0.2:80"), reached("10.0.0.2:80", &["10.1.0.3:8080"], b)),
            (key("a", "[fd00::1]:80"), reached("[fd00::1]:80", &["[fd01::1]:8080"], &a6)),
            (key("b", "[fd00::2]:80"), reached("[fd00::2]:80", &[], &b6)),
        ])
    };
    vec![
        state("node:30080", ""),
        state("node:30080 ip:192.0.2.1 lb:192.0.2.2 from:10.0.0.0/8 local", "node:30081"),
        state("node:30081 ip:192.0.2.2 lb:192.0.2.1", "node:30080 ip:192.0.2.3"),
        // B26: what one gives up the other one has at once.
        state("lb:192.0.2.1 from:10.0.0.0/8", "ip:192.0.2.2 lb:192.0.2.3 from:10.0.0.0/8"),
        state("lb:192.0.2.3 from:10.0.0.0/8", "node:30081 lb:192.0.2.1 local"),
        state("", "node:30080"),
    ]
}

#[test]
fn b36_a_service_port_is_published_at_every_address_and_taken_back() {
    let (web, own) = (key("web", "10.0.0.1:80"), Own::default());
    let (mut shadow, plain) = (empty(), service("10.0.0.1:80", &["10.1.0.1:1"]));
    turn_at(&own, &mut shadow, &web, Some(&plain));
    let everywhere =
        reached("10.0.0.1:80", &["10.1.0.1:1"], "node:30080 ip:192.0.2.1 lb:192.0.2.2 from:10.0.0.0/8 local");
    assert_eq!(
        turn_at(&own, &mut shadow, &web, Some(&everywhere)),
        [
            "range 0 10.0.0.0/8",
            "flags 0 6",
            "frontend 0.0.0.0:30080/TCP 0 NodePort",
            "frontend 192.0.2.1:80/TCP 0 ExternalIP",
            "frontend 192.0.2.2:80/TCP 0 LoadBalancer",
            "address 192.0.2.1 1 0",
            "address 192.0.2.2 1 0",
        ]
    );
    assert_eq!(
        turn_at(&own, &mut shadow, &web, Some(&plain)),
        [
            "flags 0 4",
            "-frontend 0.0.0.0:30080/TCP",
            "-address 192.0.2.1",
            "-frontend 192.0.2.1:80/TCP",
            "-address 192.0.2.2",
            "-frontend 192.0.2.2:80/TCP",
            "flags 0 0",
            "-range 0 10.0.0.0/8",
        ],
        "what is guarded is guarded to its end"
    );
    turn_at(&own, &mut shadow, &web, Some(&everywhere));
    let gone = turn_at(&own, &mut shadow, &web, None);
    assert_eq!(gone[7..], ["-service 0", "-range 0 10.0.0.0/8", "-backend 1", "-meta 0"]);
}

#[test]
fn b54_b58_a_flip_of_the_policy_is_one_word() {
    let (web, own, mut shadow) = (key("web", "10.0.0.1:80"), Own::default(), empty());
    let port = |words| reached("10.0.0.1:80", &["10.1.0.1:1"], words);
    turn_at(&own, &mut shadow, &web, Some(&port("node:30080")));
    assert_eq!(turn_at(&own, &mut shadow, &web, Some(&port("node:30080 local"))), ["flags 0 2"]);
    assert_eq!(turn_at(&own, &mut shadow, &web, Some(&port("node:30080"))), ["flags 0 0"]);
}

#[test]
fn b40_a_node_port_that_changes_is_never_without() {
    let (web, own, mut shadow) = (key("web", "10.0.0.1:80"), Own::default(), empty());
    let port = |words| reached("10.0.0.1:80", &["10.1.0.1:1"], words);
    turn_at(&own, &mut shadow, &web, Some(&port("node:30080")));
    assert_eq!(
        turn_at(&own, &mut shadow, &web, Some(&port("node:30081"))),
        ["frontend 0.0.0.0:30081/TCP 0 NodePort", "-frontend 0.0.0.0:30080/TCP"]
    );
}

#[test]
fn b26_an_address_that_is_several_things_is_the_one_that_is_most() {
    let own = Own {
        held: ["192.0.2.1".parse().unwrap()].into(),
        node_ports: Some(["192.0.2.1".parse().unwrap()].into()),
        ..Own::default()
    };
    let (a, b, mut shadow) = (key("a", "10.0.0.1:80"), key("b", "192.0.2.1:81"), empty());
    let external = reached("10.0.0.1:80", &[], "ip:192.0.2.1");
    let ops = turn_at(&own, &mut shadow, &a, Some(&external));
    assert_eq!(
        ops[2..],
        [
            "frontend 10.0.0.1:80/TCP 0",
            "frontend 192.0.2.1:80/TCP 0 ExternalIP",
            "address 10.0.0.1",
            "address 192.0.2.1 1 3"
        ]
    );
    // Another Service has it as a ClusterIP.
    let ops = turn_at(&own, &mut shadow, &b, Some(&service("192.0.2.1:81", &[])));
    assert_eq!(ops[2..], ["frontend 192.0.2.1:81/TCP 1", "address 192.0.2.1 0 3"]);
    let ops = turn_at(&own, &mut shadow, &b, None);
    assert_eq!(
        ops[..2],
        ["address 192.0.2.1 1 3", "-frontend 192.0.2.1:81/TCP"],
        "unserved ports pass before"
    );
    let ops = turn_at(&own, &mut shadow, &a, Some(&service("10.0.0.1:80", &[])));
    assert_eq!(ops, ["address 192.0.2.1 2 3", "-frontend 192.0.2.1:80/TCP"], "the node's still");
}

#[test]
fn b44_the_addresses_of_a_load_balancer_count_as_the_nodes_own() {
    let (web, mut shadow) = (key("web", "10.0.0.1:80"), empty());
    let own = |node: &str| Own { node: vec![node.parse().unwrap()], ..Own::default() };
    let port = reached("10.0.0.1:80", &[], "lb:192.0.2.2 ip:192.0.2.1 from:172.18.0.0/16");
    let ops = turn_at(&own("172.18.0.2"), &mut shadow, &web, Some(&port));
    assert_eq!(ops[1..3], ["range 0 172.18.0.0/16", "range 0 192.0.2.2/32"]);
    assert_eq!(turn_at(&own("172.19.0.2"), &mut shadow, &web, Some(&port)), ["-range 0 192.0.2.2/32"]);
}

#[test]
fn b43_a_guarded_address_is_never_open() {
    let state = |words: &str| {
        Desired::from([(key("a", "10.0.0.1:80"), reached("10.0.0.1:80", &["10.1.0.1:1"], words))])
    };
    let states = [
        Desired::new(),
        state("lb:192.0.2.1 from:10.0.0.0/8"),
        state("node:30080 lb:192.0.2.1 lb:192.0.2.2 from:172.16.0.0/12"),
        state("node:30080"),
        state("ip:192.0.2.1"),
        state("lb:192.0.2.1 from:10.0.0.0/8 from:172.16.0.0/12"),
        Desired::new(),
    ];
    for turn in states.windows(2) {
        for writes in 0.. {
            let mut reconciler = started(Faulty::new(Fake::new(ROOMY), Fault::Never), &turn[0]);
            let calls = reconciler.tables().calls();
            reconciler.tables_mut().fault = Fault::From(calls + writes);
            reconciler.desire(update(&turn[0], &turn[1]));
            reconciler.step(Instant::now());
            let finished = reconciler.report().problems.is_empty();
            let tables = reconciler.into_tables().inner.read().unwrap();
            for (at, value) in &tables.frontends {
                if value.kind == FrontendKind::LoadBalancer as u8 {
                    let record =
                        tables.services.iter().find(|entry| entry.id == value.service).unwrap().record;
                    assert_ne!(record.flags & service_flags::SOURCE_RANGES, 0, "{at} after {writes} writes");
                    assert!(
                        tables.ranges.iter().any(|(id, _)| *id == value.service),
                        "{at} after {writes} writes"
                    );
                }
            }
            if finished {
                break;
            }
        }
    }
}

/// What the tables say of the addresses of a node with one Service.
fn known(tables: &impl Tables) -> Vec<(String, u8, u8)> {
    let mut known = tables.read().unwrap().addresses;
    known.sort_by_key(|(addr, _)| *addr);
    known
        .into_iter()
        .map(|(addr, AddressValue { kind, flags, .. })| (addr.to_string(), kind, flags))
        .collect()
}

fn own(held: &[&str], node_ports: &[&str]) -> Change {
    let list = |list: &[&str]| list.iter().map(|addr| addr.parse::<IpAddr>().unwrap()).collect();
    Change::Own(Own { held: list(held), node_ports: Some(list(node_ports)), node: Vec::new() })
}

#[test]
fn b38_addresses_of_the_node_are_known_as_they_come_and_go() {
    let (cluster_ip, external, node) =
        (AddressKind::ClusterIp as u8, AddressKind::External as u8, AddressKind::Node as u8);
    let desired =
        Desired::from([(key("a", "10.0.0.1:80"), reached("10.0.0.1:80", &[], "node:30080 ip:172.18.0.3"))]);
    let mut now = Instant::now();
    let mut reconciler = Reconciler::adopt(Fake::new(ROOMY), NODE).unwrap();
    reconciler.desire(own(&["172.18.0.2", "127.0.0.1"], &["172.18.0.2"]));
    settle(&mut reconciler, &mut now);
    assert!(known(reconciler.tables()).is_empty(), "nothing before the first list");
    reconciler.desire(replace(&desired));
    settle(&mut reconciler, &mut now);
    let first =
        [("10.0.0.1", cluster_ip, 0), ("172.18.0.2", node, HELD | NODE_PORTS), ("172.18.0.3", external, 0)];
    let first = first.map(|(addr, kind, flags)| (addr.to_owned(), kind, flags));
    assert_eq!(known(reconciler.tables()), first);

    // An external address that becomes the node's, and one of the node's that goes.
    reconciler.desire(own(&["172.18.0.3"], &["172.18.0.3"]));
    settle(&mut reconciler, &mut now);
    assert_eq!(known(reconciler.tables())[1..], [("172.18.0.3".to_owned(), external, HELD | NODE_PORTS)]);
    // Its Service goes.
    reconciler.desire(update(&desired, &Desired::new()));
    settle(&mut reconciler, &mut now);
    assert_eq!(known(reconciler.tables()), [("172.18.0.3".to_owned(), node, HELD | NODE_PORTS)]);

    // The next agent leaves it alone until it knows, and puts right what it does.
    let mut next = started(reconciler.into_tables(), &Desired::new());
    next.desire(Change::Own(Own { held: ["172.18.0.3".parse().unwrap()].into(), ..Own::default() }));
    assert_eq!(settle(&mut next, &mut now).operations, 1, "it is written again as held");
    assert_eq!(known(next.tables()), [("172.18.0.3".to_owned(), node, HELD | NODE_PORTS)]);
    next.desire(own(&["172.18.0.2"], &["172.18.0.2"]));
    settle(&mut next, &mut now);
    assert_eq!(known(next.tables()), [("172.18.0.2".to_owned(), node, HELD | NODE_PORTS)]);

    // Somebody removes it.
    next.tables_mut().v4.addresses.entries.clear();
    next.verify();
    assert_eq!(settle(&mut next, &mut now).repairs, 1);
    assert_eq!(known(next.tables()), [("172.18.0.2".to_owned(), node, HELD | NODE_PORTS)]);
    assert!(next.shadow().is_untouched());
}

#[test]
fn b8_addresses_of_the_node_are_written_again_until_they_are() {
    for applied in [false, true] {
        let mut now = Instant::now();
        let mut reconciler = started(Faulty::new(Fake::new(ROOMY), Fault::Never), &Desired::new());
        let call = reconciler.tables().calls();
        reconciler.tables_mut().fault = Fault::Once { call, applied };
        reconciler.desire(own(&["172.18.0.2"], &["172.18.0.2"]));
        reconciler.step(now);
        let problems = reconciler.report().problems;
        assert_eq!(
            (problems.len(), problems[0].object.as_str()),
            (1, "addresses of the node"),
            "{problems:?}"
        );
        settle(&mut reconciler, &mut now);
        assert_eq!(reconciler.report().problems, []);
        assert_eq!(known(&reconciler.tables().inner).len(), 1, "applied: {applied}");
    }
}

#[test]
fn b38_addresses_of_the_node_that_go_make_room_for_those_that_come() {
    let mut now = Instant::now();
    let mut reconciler = started(Fake::new(Capacity { addresses: [1; 2], ..ROOMY }), &Desired::new());
    for addr in ["172.18.0.2", "172.18.0.1", "172.18.0.3"] {
        reconciler.desire(own(&[addr], &[addr]));
        reconciler.step(now);
        assert_eq!(reconciler.report().problems, [], "{addr}");
        let there = (addr.to_owned(), AddressKind::Node as u8, HELD | NODE_PORTS);
        assert_eq!(known(reconciler.tables()), [there]);
    }
    settle(&mut reconciler, &mut now);
}

#[test]
fn b8_addresses_that_could_not_be_written_were_not_changed_from_outside() {
    let now = Instant::now();
    let mut reconciler = started(Faulty::new(Fake::new(ROOMY), Fault::Never), &Desired::new());
    let call = reconciler.tables().calls();
    reconciler.tables_mut().fault = Fault::Once { call, applied: false };
    reconciler.desire(own(&["172.18.0.2"], &["172.18.0.2"]));
    reconciler.step(now);
    assert_eq!(reconciler.report().problems.len(), 1);
    // A comparison that comes before the next attempt.
    reconciler.verify();
    let outcome = reconciler.step(now);
    assert_eq!((outcome.operations, outcome.repairs), (1, 0));
    assert_eq!(reconciler.report().problems, []);
}

#[test]
fn source_ranges_that_do_not_fit_leave_the_last_state_in_use() {
    let (plain, wide) = ("lb:192.0.2.1 from:10.0.0.0/8", "lb:192.0.2.1 from:10.0.0.0/8 from:172.16.0.0/12");
    let state = |words| Desired::from([(key("a", "10.0.0.1:80"), reached("10.0.0.1:80", &[], words))]);
    let mut reconciler = started(Fake::new(Capacity { ranges: [1; 2], ..ROOMY }), &state(plain));
    reconciler.desire(update(&state(plain), &state(wide)));
    reconciler.step(Instant::now());
    let problems = reconciler.report().problems;
    let text = "no room for 1 more source ranges, 0 are free: its last state stays in use; start the agent with a larger --max-services";
    assert!(problems.len() == 1 && problems[0].text.starts_with(text), "{problems:?}");
    assert_eq!(check(&reconciler.tables().read().unwrap()), views_of(&state(plain)));
}

#[test]
fn b9_a_restart_changes_nothing_of_it() {
    for desired in reached_from_outside() {
        let node = || own(&["172.18.0.2"], &["172.18.0.2"]);
        let mut first = Reconciler::adopt(Fake::new(ROOMY), NODE).unwrap();
        first.desire(node());
        first.desire(replace(&desired));
        settle(&mut first, &mut Instant::now());
        let mut next = Reconciler::adopt(first.into_tables(), NODE).unwrap();
        next.desire(node());
        next.desire(replace(&desired));
        let outcome = settle(&mut next, &mut Instant::now());
        assert_eq!((outcome.operations, outcome.repairs), (0, 0));
    }
}

#[test]
fn ranges_of_no_service_port_are_removed() {
    let mut reconciler = started(Fake::new(ROOMY), &reached_from_outside()[1]);
    let key = lb_common::SourceRangeKey::new(63, lb_common::Addr4([10, 0, 0, 0]), 8);
    reconciler.tables_mut().v4.ranges.entries.insert(key, 1);
    reconciler.verify();
    assert_eq!(settle(&mut reconciler, &mut Instant::now()).repairs, 1);
    assert_eq!(check(&reconciler.tables().read().unwrap()), views_of(&reached_from_outside()[1]));
}
