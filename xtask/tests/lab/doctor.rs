//! A node that is broken in several ways: `sluice doctor` names each, what follows from it, and what to do.

use serde_json::Value;
use xtask::lab::{Node, manifest, wait_for};

use crate::support::{Mode, SOON, WAYS, World, lab};

/// The findings of a level that is worse than "note".
fn findings(node: &Node) -> Vec<Value> {
    let all = node.sluice_json(&["doctor"]).unwrap()["findings"].as_array().unwrap().clone();
    all.into_iter()
        .filter(|finding| ["error", "warning"].contains(&finding["level"].as_str().unwrap()))
        .collect()
}

/// The one finding about `check` that contains `words`; it says what to do.
fn named(findings: &[Value], check: &str, words: &[&str]) {
    let right = |finding: &&Value| {
        let found = finding["found"].as_str().unwrap();
        finding["check"] == check && words.iter().all(|word| found.contains(word))
    };
    let found: Vec<_> = findings.iter().filter(right).collect();
    assert_eq!(found.len(), 1, "{check} {words:?} in {findings:#?}");
    assert!(found[0]["remedy"].is_string(), "{found:#?}");
}

#[test]
fn a_node_that_is_broken_in_five_ways_is_told_each() {
    let world = World::new("doctor", Mode::All, &["--max-services", "256"]);
    let empty = world.service("empty", &[]);
    world.node.write_text("broken.yaml", "apiVersion: v1\n\tkind: Service\n").unwrap();
    // Four ids each: TCP and UDP, IPv4 and IPv6.
    let many: Vec<Value> = (0..64)
        .map(|number| manifest::service(&format!("many-{number}"), &world.new_addresses(), &empty.ports))
        .collect();
    world.node.write("many.json", &manifest::list(&many)).unwrap();
    // Another load balancer comes later, and takes its place before the one that is there.
    let other = world.node.pin_dir().with_extension("other").display().to_string().replace('.', "-");
    let mut foreign = world.node.host().command(xtask::lab::binary());
    let cgroup = world.node.cgroup().join("other");
    std::fs::create_dir_all(&cgroup).unwrap();
    let manifests = lab().dir().join("no-manifests");
    std::fs::create_dir_all(&manifests).unwrap();
    foreign.args(["--pin-dir", &other, "agent", "--max-flows", "65536", "--manifests"]).arg(&manifests);
    let mut foreign =
        foreign.arg("--cgroup-root").arg(&cgroup).stderr(std::process::Stdio::null()).spawn().unwrap();
    wait_for(SOON * 2, || {
        findings(&world.node).iter().any(|finding| finding["found"].as_str().unwrap().contains("runs before"))
    })
    .unwrap();
    let found = findings(&world.node);
    foreign.kill().unwrap();
    foreign.wait().unwrap();
    let mut cleanup = world.node.host().command(xtask::lab::binary());
    assert!(cleanup.args(["--pin-dir", &other, "cleanup"]).output().unwrap().status.success());
    let interface = world.a.interface();
    named(&found, "sockets", &["a part of the cgroup tree"]);
    named(&found, "hooks", &[interface, "pod_ingress", "runs before pod_ingress"]);
    named(&found, "tables", &["without a usable endpoint", "default/empty"]);
    named(&found, "tables", &["service_meta is full: 256 of 256"]);
    named(&found, "agent", &["broken.yaml"]);
    let left_out =
        found.iter().filter(|finding| finding["found"].as_str().unwrap().contains("no room")).count();
    assert_eq!(left_out, 4, "{found:#?}");
    // And so for the Service itself: the refusal leaves a record.
    assert!(empty.ask(&world.client, WAYS[1]).is_err());
    let events = world.node.sluice_json(&["event", "list"]).unwrap();
    let refused = |event: &&Value| event["reason"] == "no_endpoints" && event["service"] == "empty";
    assert!(events.as_array().unwrap().iter().any(|event| refused(&event)), "{events:#}");
}

#[test]
fn a_node_without_its_agent_is_told_so() {
    let world = World::new("doctor-alone", Mode::All, &[]);
    world.take_agent().kill().unwrap();
    named(&findings(&world.node), "agent", &["not running"]);
    assert!(world.node.sluice(&["cleanup"]).output().unwrap().status.success());
    named(&findings(&world.node), "agent", &["no datapath is installed"]);
    world.start_agent();
    assert!(findings(&world.node).iter().all(|finding| finding["check"] != "agent"));
}

#[test]
fn an_uplink_has_the_program_of_uplinks_and_lacks_none() {
    let world = World::new("doctor-uplink", Mode::Host, &["--masquerade-all"]);
    let found = findings(&world.node);
    assert!(found.iter().all(|finding| finding["check"] != "hooks"), "{found:#?}");
}
