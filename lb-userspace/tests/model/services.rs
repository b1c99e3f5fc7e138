//! What of a Service counts.

use serde_json::json;

use super::support::*;

#[test]
fn b1_b2_b3_services_that_are_not_balanced() {
    for more in [
        json!({"metadata": {"labels": {"service.kubernetes.io/service-proxy-name": ""}}}),
        json!({"spec": {"clusterIP": "None"}}),
        json!({"spec": {"clusterIP": "None", "clusterIPs": ["None"]}}),
        json!({"spec": {"type": "ExternalName"}}),
    ] {
        assert!(
            ports(&[service(more.clone()), slice("a", json!([endpoint("10.1.0.1", "n1", "rs")]))]).is_empty(),
            "{more}"
        );
        let mut followed = Followed::new();
        assert_eq!(followed.apply(&service(json!({}))), 1);
        assert_eq!(followed.apply(&service(more)), 1, "as good as deleted");
        assert!(followed.ports.is_empty());
        assert_eq!(followed.apply(&service(json!({}))), 1, "and back");
    }
    let (ports, problems) = outcome(&[service(json!({"spec": {"clusterIP": ""}}))]);
    assert!(ports.is_empty());
    assert_eq!(problems, ["Service d/s: it has no address: write one into spec.clusterIP"]);
}

#[test]
fn b11_b12_ports_are_told_apart_by_name_and_protocol() {
    let dns = json!({"spec": {"ports": [{"name": "tcp", "port": 53}, {"name": "udp", "protocol": "UDP", "port": 53}, {"name": "tcp", "protocol": "UDP", "port": 5300}]}});
    let endpoints = json!({"endpoints": [endpoint("10.1.0.1", "n1", "rs")], "ports": [
        {"name": "tcp", "port": 5353}, {"name": "udp", "protocol": "UDP", "port": 53}, {"name": "tcp", "protocol": "UDP", "port": 54}]});
    let all = ports(&[service(dns.clone()), slice_with("a", endpoints.clone())]);
    let seen: Vec<_> =
        all.iter().map(|(key, port)| format!("{key} {} {}", port.port, text(&port.cluster))).collect();
    assert_eq!(seen, ["d/s:tcp/TCP/v4 53 1:5353", "d/s:tcp/UDP/v4 5300 1:54", "d/s:udp/UDP/v4 53 1:53"]);

    let mut followed = Followed::new();
    followed.apply(&slice_with("a", endpoints));
    assert_eq!(followed.apply(&service(dns)), 3);
    let tcp = json!({"spec": {"ports": [{"name": "tcp", "port": 53}]}});
    assert_eq!(followed.apply(&service(tcp)), 2);
    assert_eq!(followed.ports.keys().collect::<Vec<_>>(), ["d/s:tcp/TCP/v4"]);
}

#[test]
fn b11_bad_ports_are_left_out_and_named() {
    let (ports, problems) = outcome(&[service(json!({"spec": {"ports": [
        {"name": "a", "port": 1}, {"name": "a", "port": 2}, {"name": "b", "port": 3, "protocol": "ICMP"},
        {"name": "c", "port": 0}, {"name": "d", "port": 4, "protocol": "tcp"}, {"name": "e", "port": 1}]}}))]);
    assert_eq!(ports.keys().collect::<Vec<_>>(), ["d/s:a/TCP/v4"]);
    assert_eq!(problems.len(), 5, "{problems:#?}");
    assert!(problems[1].contains("port `b` (3) is left out: there is no protocol `ICMP`"), "{problems:#?}");
    assert!(problems[4].contains("10.0.0.1 port 1/TCP belongs to d/s:a/TCP/v4"), "{problems:#?}");
}

#[test]
fn b14_b17_addresses_by_family() {
    let both = json!(["10.0.0.1", "fd00::1"]);
    for (case, spec, expected) in [
        ("single", json!({"ipFamilies": ["IPv4"], "clusterIPs": ["10.0.0.1"]}), vec!["10.0.0.1"]),
        ("dual", json!({"ipFamilies": ["IPv4", "IPv6"], "clusterIPs": both}), vec!["10.0.0.1", "fd00::1"]),
        (
            "v6 first",
            json!({"ipFamilies": ["IPv6", "IPv4"], "clusterIP": "fd00::1", "clusterIPs": ["fd00::1", "10.0.0.1"]}),
            vec!["10.0.0.1", "fd00::1"],
        ),
        ("families absent", json!({"clusterIPs": both}), vec!["10.0.0.1", "fd00::1"]),
        ("clusterIP alone", json!({"clusterIP": " fd00::0001"}), vec!["fd00::1"]),
        ("b17: leading zeros", json!({"clusterIP": "010.000.000.001"}), vec!["10.0.0.1"]),
    ] {
        let ports = ports(&[service(json!({"spec": spec}))]);
        let seen: Vec<_> = ports.values().map(|port| port.frontends[0].addr.to_string()).collect();
        assert_eq!(seen, expected, "{case}");
    }
    for (spec, expected, problem) in [
        (
            json!({"ipFamilies": ["IPv4"], "clusterIPs": both}),
            1,
            "clusterIP fd00::1 does not match spec.ipFamilies: left out",
        ),
        (
            json!({"clusterIPs": ["10.0.0.1", "10.0.0.2"]}),
            1,
            "clusterIP 10.0.0.2 is the second of its family: left out",
        ),
        (
            json!({"clusterIP": "10.0.0.256"}),
            0,
            "clusterIP `10.0.0.256` is not an address that a Service can have: left out",
        ),
        (
            json!({"clusterIP": "127.0.0.1"}),
            0,
            "clusterIP `127.0.0.1` is not an address that a Service can have: left out",
        ),
    ] {
        let (ports, problems) = outcome(&[service(json!({"spec": spec}))]);
        assert_eq!((ports.len(), problems), (expected, vec![format!("Service d/s: {problem}")]));
    }
}

#[test]
fn b26_of_two_services_with_one_address_the_older_has_it() {
    let made = |name: &str, created: Option<&str>| {
        service(json!({"metadata": {"name": name, "creationTimestamp": created}}))
    };
    let (a, b) = (made("a", None), made("b", None));
    let (ports, problems) = outcome(&[a.clone(), b.clone()]);
    assert_eq!(ports.keys().collect::<Vec<_>>(), ["d/a:http/TCP/v4"]);
    assert_eq!(
        problems,
        ["Service d/b: 10.0.0.1 port 80/TCP belongs to d/a:http/TCP/v4: not served for this Service"]
    );
    let (ports, _) =
        outcome(&[made("a", Some("2026-02-01T00:00:00Z")), made("b", Some("2026-01-01T00:00:00Z"))]);
    assert_eq!(ports.keys().collect::<Vec<_>>(), ["d/b:http/TCP/v4"]);

    let mut followed = Followed::new();
    followed.apply(&b);
    followed.index.apply(&a);
    let changes = followed.index.take_changes();
    let seen: Vec<_> = changes.iter().map(|(key, port)| (&*key.name, port.is_some())).collect();
    assert_eq!(seen, [("b", false), ("a", true)], "the frontend is free before it is given again");
    followed.index.delete(&a.key());
    let changes = followed.index.take_changes();
    let seen: Vec<_> = changes.iter().map(|(key, port)| (&*key.name, port.is_some())).collect();
    assert_eq!(seen, [("a", false), ("b", true)], "the loser takes over");
    assert!(followed.problems().is_empty());
}

#[test]
fn b23_the_timeout_of_session_affinity() {
    let config = |seconds: serde_json::Value| json!({"clientIP": {"timeoutSeconds": seconds}});
    for (case, spec, expected, problem) in [
        ("none", json!({}), 0, ""),
        ("None", json!({"sessionAffinity": "None", "sessionAffinityConfig": config(json!(5))}), 0, ""),
        ("no config", json!({"sessionAffinity": "ClientIP"}), 10_800, ""),
        ("null", json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": null}), 10_800, ""),
        (
            "null within",
            json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": null}}),
            10_800,
            "",
        ),
        ("given", json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": config(json!(5))}), 5, ""),
        (
            "longest",
            json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": config(json!(86_400))}),
            86_400,
            "",
        ),
        (
            "too long",
            json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": config(json!(86_401))}),
            10_800,
            "timeoutSeconds is 86401, but must be from 1 to 86400: 10800 is used",
        ),
        (
            "none at all",
            json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": config(json!(0))}),
            10_800,
            "timeoutSeconds is 0, but must be from 1 to 86400: 10800 is used",
        ),
        (
            "negative",
            json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": config(json!(-1))}),
            10_800,
            "timeoutSeconds is -1, but must be from 1 to 86400: 10800 is used",
        ),
        (
            "unknown",
            json!({"sessionAffinity": "Cookie"}),
            0,
            "there is no sessionAffinity `Cookie`: None is used",
        ),
    ] {
        let (ports, problems) = outcome(&[service(json!({"spec": spec}))]);
        let affinity = ports["d/s:http/TCP/v4"].affinity.map_or(0, std::num::NonZeroU32::get);
        assert_eq!(affinity, expected, "{case}");
        assert_eq!(problems.len(), usize::from(!problem.is_empty()), "{case}: {problems:?}");
        assert!(problems.iter().all(|text| text.ends_with(problem)), "{case}: {problems:?}");
    }
}

#[test]
fn an_annotation_limits_new_flows() {
    for (given, expected, reads) in [
        (json!({}), 0, true),
        (json!({"lb.sluice/new-flow-rate": null}), 0, true),
        (json!({"lb.sluice/new-flow-rate": "250"}), 250, true),
        (json!({"lb.sluice/new-flow-rate": " 16777215 "}), 16_777_215, true),
        (json!({"lb.sluice/new-flow-rate": "16777216"}), 0, false),
        (json!({"lb.sluice/new-flow-rate": "0"}), 0, false),
        (json!({"lb.sluice/new-flow-rate": "-1"}), 0, false),
        (json!({"lb.sluice/new-flow-rate": "2/s"}), 0, false),
        (json!({"lb.sluice/new-flow-rate": ""}), 0, false),
    ] {
        let (ports, problems) = outcome(&[service(json!({"metadata": {"annotations": given}}))]);
        let rate = ports["d/s:http/TCP/v4"].new_flow_rate.map_or(0, std::num::NonZeroU32::get);
        assert_eq!(rate, expected, "{given}");
        assert_eq!(problems.is_empty(), reads, "{given}: {problems:?}");
        let ending = "must be a number of flows a second from 1 to 16777215: no limit is used";
        assert!(problems.iter().all(|text| text.ends_with(ending)), "{given}: {problems:?}");
    }
    let mut followed = Followed::new();
    for (rate, changes) in [("1", 1), ("2", 1), ("2", 0)] {
        let limited = json!({"metadata": {"annotations": {"lb.sluice/new-flow-rate": rate}}});
        assert_eq!(followed.apply(&service(limited)), changes, "{rate}");
    }
}

#[test]
fn b63_session_affinity_is_switched_by_an_update() {
    let mut followed = Followed::new();
    for (affinity, changes) in [("None", 1), ("ClientIP", 1), ("ClientIP", 0), ("None", 1)] {
        let spec = json!({"spec": {"sessionAffinity": affinity}});
        assert_eq!(followed.apply(&service(spec)), changes, "{affinity}");
    }
}

#[test]
fn only_an_api_server_gives_uids() {
    let mut followed = Followed::new();
    followed.apply(&service(json!({})));
    assert_eq!(followed.index.uid("d", "s"), None);
    assert_eq!(
        followed.apply(&service(json!({"metadata": {"uid": "1-2"}}))),
        0,
        "nothing that is served by it"
    );
    assert_eq!(followed.index.uid("d", "s"), Some("1-2"));
    followed.delete(&service(json!({})));
    assert_eq!(followed.index.uid("d", "s"), None);
}

#[test]
fn b17_names_that_fit_nowhere_leave_the_service_out() {
    let long = "x".repeat(64);
    let (ports, problems) = outcome(&[service(json!({"metadata": {"name": long}}))]);
    assert!(ports.is_empty());
    assert!(problems[0].ends_with("left out: a name is longer than 63 characters"), "{problems:?}");
    let more = json!({"spec": {"ports": [{"name": long, "port": 1}, {"name": "ok", "port": 2}]}});
    let (ports, problems) = outcome(&[service(more)]);
    assert_eq!((ports.len(), problems.len()), (1, 1));
}
