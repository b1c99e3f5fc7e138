//! What probes, load balancers and Prometheus are told by an agent that works.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde_json::{Value, json};
use xtask::lab::helper::wire::Transport;
use xtask::lab::http::sample;
use xtask::lab::manifest::{self, Endpoint, Port, list, service, slice};
use xtask::lab::{Node, wait_for};

use crate::support::{Mode, SOON, TARGET, WAYS, World};

/// Where the node asks itself.
const LOOPBACKS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

fn probe(node: &Node, path: &str) -> Option<(u16, Value)> {
    let (code, body) = node.host().get(SocketAddr::new(LOOPBACKS[0], 10256), path).ok()?;
    Some((code, serde_json::from_str(&body).ok()?))
}

/// Lines of `/metrics`.
fn metrics(node: &Node) -> String {
    let (code, body) = node.host().get(SocketAddr::new(LOOPBACKS[0], 10249), "/metrics").unwrap();
    assert_eq!(code, 200, "{body}");
    body
}

#[test]
fn b84_b90_b91_b92_b94_an_agent_answers_probes_load_balancers_and_prometheus() {
    let world = World::new("health", Mode::Host, &[]);
    let node = &world.node;
    // B90, B92: all is well.
    let (code, said) = probe(node, "/healthz").unwrap();
    assert_eq!((code, &said["nodeEligible"], &said["healthy"]), (200, &json!(true), &json!(true)));
    assert_eq!(probe(node, "/livez").unwrap().1["nodeEligible"], Value::Null);

    // B91: the autoscaler is about to delete the node.
    let mut object = manifest::node(node.name(), &Node::addresses());
    object["spec"] = json!({"taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]});
    node.write("node.json", &object).unwrap();
    wait_for(SOON, || probe(node, "/healthz").is_some_and(|(code, _)| code == 503)).unwrap();
    assert_eq!(probe(node, "/livez").unwrap().0, 200);
    node.write("node.json", &manifest::node(node.name(), &Node::addresses())).unwrap();
    wait_for(SOON, || probe(node, "/healthz").is_some_and(|(code, _)| code == 200)).unwrap();

    // B94: what the datapath counts is told, of connections that live and of those that ended.
    let served = world.service("counted", &[&world.a]);
    for _ in 0..3 {
        assert_eq!(served.ask(&world.client, WAYS[0]).unwrap().pod, "a");
    }
    let label = r#"{namespace="default",service="counted",port="tcp-80""#;
    let connections = format!("sluice_service_connections_total{label}}}");
    wait_for(SOON, || sample(&metrics(node), &connections) == Some(3.0)).unwrap_or_else(|error| {
        panic!("{connections} {error}\n{}", metrics(node));
    });
    let text = metrics(node);
    for direction in ["in", "out"] {
        for metric in ["packets", "bytes"] {
            let name = format!("sluice_service_{metric}_total{label},direction=\"{direction}\"}}");
            assert!(sample(&text, &name) > Some(3.0), "{name}\n{text}");
        }
    }
    assert_eq!(sample(&text, "sluice_synced"), Some(1.0));
    assert_eq!(sample(&text, r#"kubeproxy_proxy_livez_total{code="503"}"#), Some(0.0));
    assert!(sample(&text, r#"sluice_outcomes_total{reason="flow_opened",effect="translate"}"#) >= Some(3.0));
    assert!(sample(&text, r#"sluice_map_entries{map="flows4"}"#) >= Some(2.0), "{text}");
    assert!(
        sample(&text, r#"kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv6"}"#) > Some(0.0)
    );
    let (_, config) = node.host().get(SocketAddr::new(LOOPBACKS[0], 10249), "/configz").unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["sluice"]["flags"]["hostname-override"]["value"], node.name());
    assert_eq!(
        node.host().get(SocketAddr::new(LOOPBACKS[0], 10249), "/proxyMode").unwrap(),
        (200, "ebpf".into())
    );
}

#[test]
fn b84_b85_b87_a_health_check_node_port_follows_its_service() {
    const PORT: u16 = 30_184;
    let world = World::new("hcnp", Mode::Host, &[]);
    let asked_at = |addresses: [IpAddr; 2], port| {
        addresses
            .map(|addr| world.node.host().get(SocketAddr::new(addr, port), "/").ok().map(|(code, _)| code))
    };
    let asked = |port| asked_at(Node::addresses(), port);
    let addresses = world.new_addresses();
    let ports = [Port::new(Transport::Tcp, 80, TARGET)];
    let write = |policy: &str, port: u16, ready: bool| {
        let mut object = service("hc", &addresses, &ports);
        object["spec"]["type"] = "LoadBalancer".into();
        object["spec"]["externalTrafficPolicy"] = policy.into();
        object["spec"]["healthCheckNodePort"] = port.into();
        let slices = [0, 1].map(|family| {
            let endpoint = Endpoint { ready, ..Endpoint::ready(world.a.ips()[family]) };
            let mut slice = slice(&format!("hc-{family}"), "hc", &ports, &[endpoint]);
            slice["endpoints"][0]["nodeName"] = world.node.name().into();
            slice
        });
        let [v4, v6] = slices;
        world.node.write("hc.json", &list(&[object, v4, v6])).unwrap();
    };
    for (policy, port, ready, at, expected) in [
        ("Local", PORT, true, PORT, Some(200)),
        ("Local", PORT, false, PORT, Some(503)),
        ("Local", PORT + 1, true, PORT, None),
        ("Local", PORT + 1, true, PORT + 1, Some(200)),
        ("Cluster", PORT + 1, true, PORT + 1, None),
        ("Local", PORT, true, PORT, Some(200)),
    ] {
        write(policy, port, ready);
        wait_for(SOON, || asked(at) == [expected; 2]).unwrap_or_else(|error| {
            panic!("{policy} {port} {ready} {error}: {:?}\n{}", asked(at), world.log());
        });
    }
    // Node ports are served at the node's primary addresses alone, and so are these.
    assert_eq!(asked_at(LOOPBACKS, PORT), [None; 2]);
    world.node.remove("hc.json").unwrap();
    wait_for(SOON, || asked(PORT) == [None; 2]).unwrap();
}
