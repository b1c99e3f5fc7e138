//! Traffic distribution: hints for zones and nodes. The first two machines are in one zone, the third in another.

use serde_json::json;

use super::jig::{Jig, spot};
use super::svc::Svc;

/// A Service with this distribution and a pod at each of these places.
fn distributed<'j>(jig: &'j Jig, name: &str, distribution: &str, spots: &[&str]) -> Svc<'j> {
    let svc = jig.service(name, &json!({"trafficDistribution": distribution}));
    jig.pods(name, spots);
    svc
}

/// Clients with an endpoint in their zone meet that alone, others all of them.
fn same_zone(jig: &Jig, distribution: &str) {
    let each = distributed(jig, "in-each-zone", distribution, &["1a", "3a"]);
    each.up(0, &["1a"]);
    each.up(2, &["3a"]);
    let one = distributed(jig, "in-one-zone", distribution, &["3a", "3b"]);
    one.up(2, &["3a", "3b"]);
    one.up(0, &["3a", "3b"]);
}

/// Both machines of a zone use what is on either, one without an endpoint too; other zones use all.
fn multiple_nodes(jig: &Jig, distribution: &str) {
    let both = distributed(jig, "on-both", distribution, &["1a", "2a", "3a"]);
    both.up(0, &["1a", "2a"]);
    both.up(1, &["1a", "2a"]);
    both.up(2, &["3a"]);
    let other = distributed(jig, "on-the-other", distribution, &["2a", "3a"]);
    other.up(0, &["2a"]);
    let elsewhere = distributed(jig, "elsewhere", distribution, &["1a", "2a"]);
    elsewhere.up(2, &["1a", "2a"]);
}

#[test]
fn should_route_traffic_to_an_endpoint_in_the_same_zone_when_using_preferclose() {
    same_zone(&Jig::new("close"), "PreferClose");
}

#[test]
fn should_route_traffic_correctly_between_pods_on_multiple_nodes_when_using_preferclose() {
    multiple_nodes(&Jig::new("close-nodes"), "PreferClose");
}

#[test]
fn should_route_traffic_to_an_endpoint_in_the_same_zone_when_using_prefersamezone() {
    same_zone(&Jig::new("zone"), "PreferSameZone");
}

#[test]
fn should_route_traffic_correctly_between_pods_on_multiple_nodes_when_using_prefersamezone() {
    multiple_nodes(&Jig::new("zone-nodes"), "PreferSameZone");
}

#[test]
fn should_route_traffic_to_an_endpoint_on_the_same_node_or_fall_back_to_same_zone_when_using_prefersamenode()
{
    let jig = Jig::new("same-node");
    let all = distributed(&jig, "on-each", "PreferSameNode", &["1a", "2a", "3a"]);
    all.up(0, &["1a"]);
    all.up(1, &["2a"]);
    let other = distributed(&jig, "on-the-other", "PreferSameNode", &["2a", "3a"]);
    other.up(0, &["2a"]);
    let elsewhere = distributed(&jig, "elsewhere", "PreferSameNode", &["1a", "2a"]);
    elsewhere.up(2, &["1a", "2a"]);
}

#[test]
fn should_route_traffic_to_an_endpoint_on_the_same_node_when_using_prefersamenode_and_fall_back_when_the_endpoint_becomes_unavailable()
 {
    let jig = Jig::new("same-node-gone");
    let svc = jig.service("traffic-dist-test-service", &json!({"trafficDistribution": "PreferSameNode"}));
    let pods = jig.pods("traffic-dist-test-service", &["1a", "2a"]);
    svc.up(0, &["1a"]);
    svc.up(1, &["2a"]);
    pods[0].delete();
    svc.up(0, &["2a"]);
    svc.up(1, &["2a"]);
    jig.pod("server-0-new", spot("1b"), &svc.name);
    svc.up(0, &["1b"]);
    svc.up(1, &["2a"]);
}
