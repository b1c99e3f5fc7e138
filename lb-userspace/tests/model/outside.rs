//! What leads to a Service beside its ClusterIPs.

use std::collections::BTreeMap;

use lb_userspace::model::{External, Index, Object, Reason};
use serde_json::{Value, json};

use super::support::*;

/// A Service of both families with `more` on top.
fn dual(more: Value) -> Object {
    service(merge(json!({"spec": {"clusterIPs": ["10.0.0.1", "fd00::1"]}}), more))
}

/// `spec` and the addresses of load balancers.
fn balanced(spec: Value, ingress: Value) -> Value {
    json!({"spec": spec, "status": {"loadBalancer": {"ingress": ingress}}})
}

/// One line for each Service port that is reached from outside: `node` port, `ext`ernal IPs, `lb` addresses, `from` where
/// these are reached, `local` policy.
fn lines(ports: &Ports) -> Vec<String> {
    let line = |key: &String, external: &External| {
        let External { node_port, external_ips, load_balancer_ips, source_ranges, local } = external;
        let list = |what: &str, texts: Vec<String>| {
            (!texts.is_empty()).then(|| format!("{what} {}", texts.join(",")))
        };
        let texts = |addresses: &[std::net::IpAddr]| addresses.iter().map(ToString::to_string).collect();
        let from = source_ranges.as_ref().map(|ranges| {
            let ranges: Vec<_> = ranges.iter().map(ToString::to_string).collect();
            format!("from [{}]", ranges.join(","))
        });
        let parts = [
            Some(key.trim_start_matches("d/s:").to_owned()),
            node_port.map(|port| format!("node {port}")),
            list("ext", texts(external_ips)),
            list("lb", texts(load_balancer_ips)),
            from,
            local.then(|| "local".to_owned()),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    };
    ports.iter().filter_map(|(key, port)| Some(line(key, port.external.as_deref()?))).collect()
}

/// What follows from a Service of both families, without any problem.
fn reached(more: Value) -> Vec<String> {
    let (ports, problems) = outcome(&[dual(more)]);
    assert_eq!(problems, Vec::<String>::new());
    lines(&ports)
}

#[test]
fn b41_external_ips_can_be_switched_off() {
    let spec = json!({"spec": {"externalIPs": ["192.0.2.1", "192.0.2.2"], "externalTrafficPolicy": "Local"},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.2"}]}}});
    let external = |serve| {
        let mut index = Index::new(NODE);
        index.serve_external_ips(serve);
        index.apply(service(spec.clone()));
        let changes = index.take_changes();
        let external = *changes[0].1.clone().unwrap().external.clone().unwrap();
        let off = index.problems().any(|(_, complaint)| complaint.reason == Reason::ExternalIpsOff);
        (external.external_ips, external.load_balancer_ips.len(), external.local, off)
    };
    assert_eq!(external(true), (vec!["192.0.2.1".parse().unwrap()], 1, true, false));
    assert_eq!(external(false), (vec![], 1, false, true), "b22: a policy about nothing");
}

#[test]
fn b16_b19_b20_addresses_go_by_family_and_mode() {
    let ip = |ip: &str| json!({"ip": ip});
    for (case, spec, ingress, expected) in [
        ("nothing", json!({}), json!([]), vec![]),
        (
            "external IPs",
            json!({"externalIPs": ["192.0.2.2", "2001:db8::2", "192.0.2.1", " 192.0.2.1"]}),
            json!([]),
            vec!["http/TCP/v4 ext 192.0.2.1,192.0.2.2", "http/TCP/v6 ext 2001:db8::2"],
        ),
        ("one family", json!({}), json!([ip("2001:db8::1")]), vec!["http/TCP/v6 lb 2001:db8::1"]),
        (
            "several ingress addresses, of any type",
            json!({"type": "ClusterIP"}),
            json!([ip("192.0.2.4"), ip("192.0.2.3"), ip("192.0.2.4")]),
            vec!["http/TCP/v4 lb 192.0.2.3,192.0.2.4"],
        ),
        (
            "modes, host names",
            json!({"type": "LoadBalancer", "loadBalancerIP": "192.0.2.9", "loadBalancerClass": "x/y"}),
            json!([{"ip": "192.0.2.1", "ipMode": "VIP"}, {"ip": "192.0.2.2", "ipMode": "Proxy"},
                {"hostname": "lb.example"}, {"ip": "", "hostname": "x"}, {"ip": "2001:db8::1", "ipMode": null}]),
            vec!["http/TCP/v4 lb 192.0.2.1", "http/TCP/v6 lb 2001:db8::1"],
        ),
        (
            "both at once: guarded as that of a load balancer",
            json!({"externalIPs": ["192.0.2.1", "192.0.2.2"], "loadBalancerSourceRanges": ["10.0.0.0/8"]}),
            json!([ip("192.0.2.1")]),
            vec!["http/TCP/v4 ext 192.0.2.2 lb 192.0.2.1 from [10.0.0.0/8]"],
        ),
        (
            "the ClusterIPs again",
            json!({"externalIPs": ["10.0.0.1", "fd00::1"]}),
            json!([ip("10.0.0.1")]),
            vec![],
        ),
    ] {
        assert_eq!(reached(balanced(spec, ingress)), expected, "{case}");
    }
    let (ports, _) =
        outcome(&[service(balanced(json!({"externalIPs": ["2001:db8::2"]}), json!([ip("2001:db8::1")])))]);
    assert!(lines(&ports).is_empty(), "the Service is of IPv4 alone");
}

#[test]
fn b16_b18_source_ranges_go_by_family_and_all_is_no_restriction() {
    let all = "192.0.2.1";
    for (case, ranges, v4, v6) in [
        ("none", json!([]), "", ""),
        ("blank", json!(["", " "]), "", ""),
        ("one family alone is restricted", json!(["10.0.0.0/8"]), " from [10.0.0.0/8]", ""),
        (
            "sorted, once, as they are meant",
            json!(["10.1.0.0/16", " 10.0.0.7/8 ", "fd00::/8", "10.1.0.0/16"]),
            " from [10.0.0.0/8,10.1.0.0/16]",
            " from [fd00::/8]",
        ),
        ("b18", json!(["10.0.0.0/8", "0.0.0.0/0", "fd00::/8"]), "", " from [fd00::/8]"),
        ("b18 of the other family", json!(["10.0.0.0/8", "::/0"]), " from [10.0.0.0/8]", ""),
    ] {
        let spec = json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ranges});
        let ingress = json!([{"ip": all}, {"ip": "2001:db8::1"}]);
        let expected = [format!("http/TCP/v4 lb {all}{v4}"), format!("http/TCP/v6 lb 2001:db8::1{v6}")];
        assert_eq!(reached(balanced(spec, ingress)), expected, "{case}");
    }
    let spec = json!({"externalIPs": [all], "loadBalancerSourceRanges": ["10.0.0.0/8"]});
    assert_eq!(
        reached(json!({"spec": spec})),
        ["http/TCP/v4 ext 192.0.2.1"],
        "they guard load balancers alone"
    );
}

#[test]
fn b17_what_cannot_be_read_is_named_and_left_out() {
    let ingress = json!([{"ip": "192.0.2.256"}, {"ip": "127.0.0.1"}, {"ip": "192.0.2.1"}]);
    let spec = json!({"type": "LoadBalancer", "externalIPs": ["example.com", "192.0.2.010"], "externalTrafficPolicy": "local",
        "loadBalancerSourceRanges": ["10.0.0.0", "10.0.0.0/8", "10.0.0.0/33"]});
    let (ports, problems) = outcome(&[dual(balanced(spec, ingress))]);
    assert_eq!(lines(&ports), ["http/TCP/v4 ext 192.0.2.10 lb 192.0.2.1 from [10.0.0.0/8]"]);
    assert_eq!(
        problems,
        [
            "Service d/s: load balancer IP `192.0.2.256` is not an address that a Service can have: left out",
            "Service d/s: load balancer IP `127.0.0.1` is not an address that a Service can have: left out",
            "Service d/s: external IP `example.com` is not an address that a Service can have: left out",
            "Service d/s: there is no externalTrafficPolicy `local`: Cluster is used",
            "Service d/s: loadBalancerSourceRanges: `10.0.0.0` is no range, such as 192.0.2.0/24: left out",
            "Service d/s: loadBalancerSourceRanges: `10.0.0.0/33` is no range, such as 192.0.2.0/24: left out",
        ]
    );
    let (ports, _) = outcome(&[dual(balanced(
        json!({"loadBalancerSourceRanges": ["10.0.0.0"]}),
        json!([{"ip": "192.0.2.1"}, {"ip": "2001:db8::1"}]),
    ))]);
    assert_eq!(
        lines(&ports),
        ["http/TCP/v4 lb 192.0.2.1 from []", "http/TCP/v6 lb 2001:db8::1 from []"],
        "a restriction that cannot be read lets nobody in"
    );
}

#[test]
fn b11_b21_b40_node_ports() {
    let ports = |kind: &str, node_port: Value| {
        json!({"spec": {"type": kind, "ports": [{"name": "http", "port": 80, "nodePort": node_port},
            {"name": "dns", "protocol": "UDP", "port": 53, "nodePort": node_port}]}})
    };
    let both: Vec<String> = ["dns/UDP/v4", "dns/UDP/v6", "http/TCP/v4", "http/TCP/v6"]
        .map(|key| format!("{key} node 30080"))
        .into();
    assert_eq!(reached(ports("NodePort", json!(30080))), both, "b11: one number, two protocols");
    assert_eq!(reached(ports("LoadBalancer", json!(30080))), both);
    for (kind, node_port) in
        [("LoadBalancer", json!(0)), ("LoadBalancer", Value::Null), ("ClusterIP", json!(30080))]
    {
        assert_eq!(reached(ports(kind, node_port.clone())), Vec::<String>::new(), "{kind} {node_port}");
    }
}

#[test]
fn b22_an_external_policy_counts_for_what_is_reached_from_outside() {
    let node_port = json!([{"name": "http", "port": 80, "nodePort": 30080}]);
    for (case, spec, ingress, local) in [
        ("ClusterIP", json!({}), json!([{"ip": "192.0.2.1"}]), false),
        ("external IPs", json!({"externalIPs": ["192.0.2.1"]}), json!([]), true),
        ("NodePort", json!({"type": "NodePort", "ports": node_port}), json!([]), true),
        ("LoadBalancer", json!({"type": "LoadBalancer"}), json!([{"ip": "192.0.2.1"}]), true),
    ] {
        let of = |policy| {
            let spec = merge(json!({"externalTrafficPolicy": policy}), spec.clone());
            let (ports, _) = outcome(&[service(balanced(spec, ingress.clone()))]);
            ports["d/s:http/TCP/v4"].clone()
        };
        assert_eq!(of("Local").external.unwrap().local, local, "{case}");
        assert!(!of("Local").internal_local, "{case}: b57: of the other policy nothing");
        assert!(!of("Cluster").external.unwrap().local, "{case}: Cluster");
    }
}

#[test]
fn b26_an_address_from_outside_has_one_owner() {
    let made = |name: &str, ip: &str, created: u8, spec: Value| {
        service(
            json!({"metadata": {"name": name, "creationTimestamp": format!("2026-01-0{created}T00:00:00Z")},
            "spec": merge(json!({"clusterIP": ip}), spec)}),
        )
    };
    let shared = || json!({"externalIPs": ["192.0.2.1"], "type": "NodePort", "ports": [{"name": "http", "port": 80, "nodePort": 30080}]});
    let old = made("old", "10.0.0.1", 1, shared());
    let new = made("new", "10.0.0.2", 2, shared());
    let (ports, problems) = outcome(&[new.clone(), old.clone()]);
    assert_eq!(lines(&ports), ["d/old:http/TCP/v4 node 30080 ext 192.0.2.1"]);
    assert_eq!(ports.len(), 2, "the ClusterIP of the loser is served");
    assert_eq!(
        problems,
        [
            "Service d/new: node port 30080/TCP belongs to d/old:http/TCP/v4: not served for this Service",
            "Service d/new: 192.0.2.1 port 80/TCP belongs to d/old:http/TCP/v4: not served for this Service",
        ]
    );
    let mut followed = Followed::new();
    for object in [&old, &new] {
        followed.apply(object);
    }
    assert_eq!(followed.delete(&old), 2, "the loser takes over");
    assert_eq!(lines(&followed.ports), ["d/new:http/TCP/v4 node 30080 ext 192.0.2.1"]);
    assert!(followed.problems().is_empty());
    assert_eq!(followed.apply(&old), 2, "and gives it back");
    assert_eq!(lines(&followed.ports), ["d/old:http/TCP/v4 node 30080 ext 192.0.2.1"]);

    let mut index = Index::new(NODE);
    index.apply(&new);
    index.take_changes();
    index.apply(&old);
    let changes = index.take_changes();
    let seen: Vec<_> = changes.iter().map(|(key, _)| &*key.name).collect();
    assert_eq!(seen, ["new", "old"], "it is free before it is given again");

    // A ClusterIP is nobody else's, however old the Service is that names it.
    let thief = made("thief", "10.0.0.3", 1, json!({"externalIPs": ["10.0.0.9"]}));
    let victim = made("victim", "10.0.0.9", 2, json!({}));
    let (ports, problems) = outcome(&[thief, victim]);
    assert_eq!(ports["d/victim:http/TCP/v4"].frontends[0].addr.to_string(), "10.0.0.9");
    assert!(lines(&ports).is_empty());
    assert_eq!(
        problems,
        [
            "Service d/thief: 10.0.0.9 port 80/TCP belongs to d/victim:http/TCP/v4: not served for this Service"
        ]
    );
}

/// Each step is what the Service is changed to, and how it is reached then. Whatever was there before, the result is
/// that of the objects as they are.
fn transitions(steps: &[(&str, Value, &[&str])]) {
    let endpoints = slice("a", json!([endpoint("10.1.0.1", NODE, "rs"), endpoint("10.1.0.2", "n2", "rs")]));
    let mut followed = Followed::new();
    followed.apply(&endpoints);
    for (case, more, expected) in steps {
        followed.apply(&service(more.clone()));
        assert_eq!(lines(&followed.ports), *expected, "{case}");
        assert_eq!(followed.problems(), Vec::<String>::new(), "{case}");
        let fresh: BTreeMap<_, _> = outcome(&[service(more.clone()), endpoints.clone()]).0;
        assert_eq!(followed.ports, fresh, "{case}");
        assert_eq!(followed.apply(&service(more.clone())), 0, "{case}: the same again");
    }
}

#[test]
fn b12_b21_b40_types_and_ports_change_in_flight() {
    let ports = |port: u16, node_port: u16, protocol: &str| json!([{"name": "http", "port": port, "nodePort": node_port, "protocol": protocol}]);
    let of = |kind: &str, ports: Value| json!({"spec": {"type": kind, "ports": ports}});
    let vip = json!([{"ip": "192.0.2.1"}]);
    let lb = |ports: Value, ingress: &Value| {
        balanced(json!({"type": "LoadBalancer", "ports": ports}), ingress.clone())
    };
    transitions(&[
        ("ClusterIP", of("ClusterIP", ports(80, 0, "TCP")), &[]),
        ("NodePort", of("NodePort", ports(80, 30080, "TCP")), &["http/TCP/v4 node 30080"]),
        ("node port renumbered", of("NodePort", ports(80, 30081, "TCP")), &["http/TCP/v4 node 30081"]),
        ("port renumbered", of("NodePort", ports(81, 30081, "TCP")), &["http/TCP/v4 node 30081"]),
        ("protocol", of("NodePort", ports(81, 30081, "UDP")), &["http/UDP/v4 node 30081"]),
        ("LoadBalancer, pending", lb(ports(80, 30081, "TCP"), &json!([])), &["http/TCP/v4 node 30081"]),
        ("given", lb(ports(80, 30081, "TCP"), &vip), &["http/TCP/v4 node 30081 lb 192.0.2.1"]),
        ("b21: without node ports", lb(ports(80, 0, "TCP"), &vip), &["http/TCP/v4 lb 192.0.2.1"]),
        ("b21: with one again", lb(ports(80, 30080, "TCP"), &vip), &["http/TCP/v4 node 30080 lb 192.0.2.1"]),
        ("back to NodePort", of("NodePort", ports(80, 30080, "TCP")), &["http/TCP/v4 node 30080"]),
        ("to ExternalName", json!({"spec": {"type": "ExternalName", "externalIPs": ["192.0.2.1"]}}), &[]),
        ("and back", of("NodePort", ports(80, 30080, "TCP")), &["http/TCP/v4 node 30080"]),
        (
            "headless",
            merge(of("NodePort", ports(80, 30080, "TCP")), json!({"spec": {"clusterIP": "None"}})),
            &[],
        ),
        ("back to ClusterIP", of("ClusterIP", ports(80, 0, "TCP")), &[]),
    ]);
}

#[test]
fn b19_b41_b42_b43_addresses_and_ranges_change_in_flight() {
    let lb = |ranges: Value, ingress: Value| {
        balanced(json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ranges}), ingress)
    };
    let at = |ip: &str, mode: &str| json!([{"ip": ip, "ipMode": mode}]);
    transitions(&[
        ("pending", lb(json!([]), json!([])), &[]),
        ("given", lb(json!([]), at("192.0.2.1", "VIP")), &["http/TCP/v4 lb 192.0.2.1"]),
        ("replaced", lb(json!([]), at("192.0.2.2", "VIP")), &["http/TCP/v4 lb 192.0.2.2"]),
        ("b19: Proxy", lb(json!([]), at("192.0.2.2", "Proxy")), &[]),
        ("b19: VIP", lb(json!([]), at("192.0.2.2", "VIP")), &["http/TCP/v4 lb 192.0.2.2"]),
        (
            "ranges",
            lb(json!(["10.0.0.0/8"]), at("192.0.2.2", "VIP")),
            &["http/TCP/v4 lb 192.0.2.2 from [10.0.0.0/8]"],
        ),
        (
            "others",
            lb(json!(["10.0.0.0/9"]), at("192.0.2.2", "VIP")),
            &["http/TCP/v4 lb 192.0.2.2 from [10.0.0.0/9]"],
        ),
        ("b18: all", lb(json!(["0.0.0.0/0"]), at("192.0.2.2", "VIP")), &["http/TCP/v4 lb 192.0.2.2"]),
        ("none", lb(json!(null), at("192.0.2.2", "VIP")), &["http/TCP/v4 lb 192.0.2.2"]),
        ("released", lb(json!([]), json!(null)), &[]),
        ("external IP", json!({"spec": {"externalIPs": ["192.0.2.3"]}}), &["http/TCP/v4 ext 192.0.2.3"]),
        ("and no more", json!({"spec": {"externalIPs": null}}), &[]),
    ]);
}

#[test]
fn b57_b58_policies_are_flipped_in_flight() {
    let with = |external: &str, internal: &str| {
        json!({"spec": {"type": "NodePort", "externalTrafficPolicy": external, "internalTrafficPolicy": internal,
            "ports": [{"name": "http", "port": 80, "nodePort": 30080}]}})
    };
    let (cluster, local): (&[&str], &[&str]) =
        (&["http/TCP/v4 node 30080"], &["http/TCP/v4 node 30080 local"]);
    transitions(&[
        ("neither", with("Cluster", "Cluster"), cluster),
        ("external", with("Local", "Cluster"), local),
        ("both", with("Local", "Local"), local),
        ("internal", with("Cluster", "Local"), cluster),
        ("neither again", with("Cluster", "Cluster"), cluster),
    ]);
    let mut followed = Followed::new();
    followed.apply(&slice("a", json!([endpoint("10.1.0.1", NODE, "rs"), endpoint("10.1.0.2", "n2", "rs")])));
    followed.apply(&service(with("Local", "Cluster")));
    let port = &followed.ports["d/s:http/TCP/v4"];
    assert!(!port.internal_local, "the ClusterIP is on its own policy");
    assert_sets(port, ["1 2", "1", "1 2"], "both selections are there");
}

#[test]
fn b110_a_second_family_comes_and_goes_outside_too() {
    let spec = |ips: Value| json!({"spec": {"clusterIPs": ips, "externalIPs": ["192.0.2.1", "2001:db8::1"]}});
    transitions(&[
        ("IPv4", spec(json!(["10.0.0.1"])), &["http/TCP/v4 ext 192.0.2.1"]),
        (
            "both",
            spec(json!(["10.0.0.1", "fd00::1"])),
            &["http/TCP/v4 ext 192.0.2.1", "http/TCP/v6 ext 2001:db8::1"],
        ),
        ("IPv4 again", spec(json!(["10.0.0.1"])), &["http/TCP/v4 ext 192.0.2.1"]),
    ]);
}
