//! The order of the writes of a plan.

use lb_userspace::model::{ServicePort, ServicePortKey};
use lb_userspace::plan::{Own, Shadow, plan};
use lb_userspace::tables::{Fake, Tables as _};

use crate::support::{NODE, ROOMY, brief, endpoints, key, service};

pub(crate) fn empty() -> Shadow {
    Shadow::new(Fake::new(ROOMY).read().unwrap(), NODE)
}

/// Plans, applies to the mirror, and shows the plan.
fn turn(shadow: &mut Shadow, key: &ServicePortKey, desired: Option<&ServicePort>) -> Vec<String> {
    turn_at(&Own::default(), shadow, key, desired)
}

/// The same on a node with these addresses.
pub(crate) fn turn_at(
    own: &Own,
    shadow: &mut Shadow,
    key: &ServicePortKey,
    desired: Option<&ServicePort>,
) -> Vec<String> {
    let ops = plan(shadow, key, desired, |_| false, own).unwrap();
    for op in &ops {
        shadow.apply(op);
    }
    assert_eq!(
        plan(shadow, key, desired, |_| false, own).unwrap(),
        [],
        "a second time there is nothing to do"
    );
    ops.iter().map(brief).collect()
}

#[test]
fn a_new_service_port_is_published_from_the_backends_to_the_address() {
    let web = key("web", "10.0.0.1:80");
    let mut desired = service("10.0.0.1:80", &["10.1.0.1:8080", "10.1.0.2:8080"]);
    desired.local = endpoints(&["10.1.0.2:8080"]);
    assert_eq!(
        turn(&mut empty(), &web, Some(&desired)),
        [
            "meta 0 default/web:http/TCP/v4 80",
            "backend 1 0 10.1.0.1:8080 #1 3",
            "backend 2 0 10.1.0.2:8080 #1 7",
            "slots v4 0 [1, 2]",
            "slots v4 2 [2]",
            "service 0 0+2 2+1",
            "frontend 10.0.0.1:80/TCP 0",
            "address 10.0.0.1",
        ]
    );
}

#[test]
fn b72_a_removed_service_port_goes_from_the_address_to_the_name() {
    let web = key("web", "[fd00::1]:80");
    let mut shadow = empty();
    turn(&mut shadow, &web, Some(&service("[fd00::1]:80", &["[fd01::1]:8080"])));
    assert_eq!(
        turn(&mut shadow, &web, None),
        ["-address fd00::1", "-frontend [fd00::1]:80/TCP", "-service 0", "-backend 1", "-meta 0"]
    );
    shadow.begin_grace();
    shadow.end_grace();
    assert!(shadow.is_untouched());
}

#[test]
fn b100_an_endpoint_stops_serving_after_the_new_selection_is_in_place() {
    let web = key("web", "10.0.0.1:80");
    let mut shadow = empty();
    turn(&mut shadow, &web, Some(&service("10.0.0.1:80", &["10.1.0.1:1", "10.1.0.2:1"])));
    assert_eq!(
        turn(&mut shadow, &web, Some(&service("10.0.0.1:80", &["10.1.0.2:1", "10.1.0.3:1"]))),
        ["backend 3 0 10.1.0.3:1 #1 3", "slots v4 2 [2, 3]", "span 0 Cluster 2+2", "-backend 1"]
    );
    assert_eq!(
        turn(&mut shadow, &web, Some(&service("10.0.0.1:80", &[]))),
        ["span 0 Cluster 0+0", "-backend 2", "-backend 3"]
    );
}

#[test]
fn b97_an_endpoint_that_serves_unselected_keeps_its_backend() {
    let web = key("web", "10.0.0.1:80");
    let mut shadow = empty();
    let mut desired = service("10.0.0.1:80", &["10.1.0.1:1", "10.1.0.2:1"]);
    turn(&mut shadow, &web, Some(&desired));
    desired.cluster.pop();
    assert_eq!(
        turn(&mut shadow, &web, Some(&desired)),
        ["slots v4 2 [1]", "span 0 Cluster 2+1", "backend 2 1"]
    );
}

#[test]
fn b51_scopes_of_equal_content_share_a_run_and_an_unchanged_scope_stays() {
    let web = key("web", "10.0.0.1:80");
    let mut shadow = empty();
    let mut desired = service("10.0.0.1:80", &["10.1.0.1:1", "10.1.0.2:1"]);
    desired.local = desired.cluster.clone();
    let ops = turn(&mut shadow, &web, Some(&desired));
    assert_eq!(ops[3..5], ["slots v4 0 [1, 2]", "service 0 0+2 0+2"]);
    desired.cluster = endpoints(&["10.1.0.2:1"]);
    assert_eq!(
        turn(&mut shadow, &web, Some(&desired)),
        ["slots v4 2 [2]", "span 0 Cluster 2+1", "backend 1 5"]
    );
    desired.local = desired.cluster.clone();
    assert_eq!(turn(&mut shadow, &web, Some(&desired)), ["span 0 Local 2+1", "backend 1 1"]);
}

#[test]
fn b53_the_policy_is_one_word() {
    let web = key("web", "10.0.0.1:80");
    let mut shadow = empty();
    let mut desired = service("10.0.0.1:80", &["10.1.0.1:1"]);
    turn(&mut shadow, &web, Some(&desired));
    desired.internal_local = true;
    assert_eq!(turn(&mut shadow, &web, Some(&desired)), ["flags 0 1"]);
}

#[test]
fn b63_session_affinity_and_its_timeout_are_one_word() {
    let web = key("web", "10.0.0.1:80");
    let mut shadow = empty();
    let mut desired = service("10.0.0.1:80", &["10.1.0.1:1"]);
    turn(&mut shadow, &web, Some(&desired));
    for (timeout, flags) in [(10_800, 10_800_u64 << 32), (5, 5 << 32), (0, 0)] {
        desired.affinity = std::num::NonZeroU32::new(timeout);
        assert_eq!(turn(&mut shadow, &web, Some(&desired)), [format!("flags 0 {flags}")]);
    }
}

#[test]
fn b65_a_backend_says_that_it_is_in_a_scope_for_as_long_as_it_is() {
    let (web, a, b) = (key("web", "10.0.0.1:80"), "10.1.0.1:1", "10.1.0.2:1");
    let mut shadow = empty();
    let mut desired = service("10.0.0.1:80", &[a]);
    desired.serving = endpoints(&[a, b]);
    let ops = turn(&mut shadow, &web, Some(&desired));
    assert_eq!(ops[1..3], [format!("backend 1 0 {a} #1 3"), format!("backend 2 0 {b} #1 1")]);
    desired.cluster = endpoints(&[b]);
    assert_eq!(
        turn(&mut shadow, &web, Some(&desired)),
        ["backend 2 3", "slots v4 1 [2]", "span 0 Cluster 1+1", "backend 1 1"]
    );
    desired.local = endpoints(&[b]);
    assert_eq!(turn(&mut shadow, &web, Some(&desired)), ["backend 2 7", "span 0 Local 1+1"]);
    (desired.cluster, desired.local) = (endpoints(&[a]), endpoints(&[a]));
    desired.serving = endpoints(&[a]);
    assert_eq!(
        turn(&mut shadow, &web, Some(&desired)),
        ["backend 1 7", "slots v4 2 [1]", "span 0 Cluster 2+1", "span 0 Local 2+1", "-backend 2"]
    );
}

#[test]
fn b12_a_renumbered_port_is_published_before_the_old_one_goes() {
    let web = key("web", "10.0.0.1:80");
    let mut shadow = empty();
    turn(&mut shadow, &web, Some(&service("10.0.0.1:80", &["10.1.0.1:1"])));
    assert_eq!(
        turn(&mut shadow, &web, Some(&service("10.0.0.1:81", &["10.1.0.1:1"]))),
        ["meta 0 default/web:http/TCP/v4 81", "frontend 10.0.0.1:81/TCP 0", "-frontend 10.0.0.1:80/TCP"]
    );
    assert_eq!(
        turn(&mut shadow, &web, Some(&service("10.0.0.2:81", &["10.1.0.1:1"]))),
        ["frontend 10.0.0.2:81/TCP 0", "address 10.0.0.2", "-address 10.0.0.1", "-frontend 10.0.0.1:81/TCP"]
    );
}

#[test]
fn b13_a_reused_cluster_ip_goes_over_in_one_write() {
    let (old, new) = (key("old", "10.0.0.1:80"), key("new", "10.0.0.1:80"));
    let mut shadow = empty();
    turn(&mut shadow, &old, Some(&service("10.0.0.1:80", &["10.1.0.1:1"])));
    assert_eq!(
        turn(&mut shadow, &new, Some(&service("10.0.0.1:80", &["10.1.0.2:1"])))[4..],
        ["frontend 10.0.0.1:80/TCP 1"]
    );
    assert_eq!(turn(&mut shadow, &old, None), ["-service 0", "-backend 1", "-meta 0"]);
}

#[test]
fn an_address_stays_while_another_port_of_it_is_served() {
    let (web, dns) = (key("web", "10.0.0.1:80"), key("dns", "10.0.0.1:53"));
    let mut shadow = empty();
    turn(&mut shadow, &web, Some(&service("10.0.0.1:80", &[])));
    assert_eq!(
        turn(&mut shadow, &dns, Some(&service("10.0.0.1:53", &[]))),
        ["meta 1 default/dns:http/TCP/v4 53", "service 1 0+0 0+0", "frontend 10.0.0.1:53/TCP 1"]
    );
    assert_eq!(turn(&mut shadow, &web, None), ["-frontend 10.0.0.1:80/TCP", "-service 0", "-meta 0"]);
    assert_eq!(turn(&mut shadow, &dns, None)[0], "-address 10.0.0.1");
}

#[test]
fn ids_come_back_late_and_with_a_new_generation() {
    let web = key("web", "10.0.0.1:80");
    let mut snapshot = Fake::new(ROOMY).read().unwrap();
    snapshot.capacity.backends = 4;
    let mut shadow = Shadow::new(snapshot, NODE);
    let mut used = Vec::new();
    for port in 1..=4 {
        let ops = turn(&mut shadow, &web, Some(&service("10.0.0.1:80", &[&format!("10.1.0.1:{port}")])));
        used.push(ops.into_iter().find(|op| op.starts_with("backend")).unwrap());
        shadow.begin_grace();
        shadow.end_grace();
    }
    let expected =
        ["1 0 10.1.0.1:1 #1 3", "2 0 10.1.0.1:2 #1 3", "3 0 10.1.0.1:3 #1 3", "1 0 10.1.0.1:4 #2 3"];
    assert_eq!(used, expected.map(|op| format!("backend {op}")));
}

#[test]
fn the_rotation_begins_elsewhere_on_each_node_and_service() {
    let start = |node: &str, name: &str| {
        let shadow = Shadow::new(Fake::new(ROOMY).read().unwrap(), node);
        let key = key(name, "10.0.0.1:80");
        let ops =
            plan(&shadow, &key, Some(&service("10.0.0.1:80", &[])), |_| false, &Own::default()).unwrap();
        ops.iter().find_map(|op| match op {
            lb_userspace::plan::Op::PutService { cursor, .. } => Some(*cursor),
            _ => None,
        })
    };
    assert_eq!(start("a", "x"), start("a", "x"));
    assert_ne!(start("a", "x"), start("b", "x"));
    assert_ne!(start("a", "x"), start("a", "y"));
}
