//! The agent as a process: started, killed, started again, followed by `status`, taken away.

use std::fs;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::node::Node;
use super::support::{patiently, run};

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Ids of the pinned links and maps.
fn ids(node: &Node) -> Vec<(String, u64)> {
    let mut ids = Vec::new();
    for (kind, noun) in [("links", "link"), ("maps", "map")] {
        let dir = node.pins.0.base().join(kind);
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let info: Value =
                serde_json::from_str(&run(&format!("bpftool -j {noun} show pinned {}", path.display())))
                    .unwrap();
            ids.push((path.display().to_string(), info["id"].as_u64().unwrap()));
        }
    }
    ids.sort();
    ids
}

#[test]
fn an_agent_is_started_killed_and_started_again() {
    let node = Node::new();
    node.netns.veth("veth1");
    let agent = node.start();
    let status = node.status();
    assert_eq!(status["node"], "node-a");
    // Both ends of the pair are veths, one has such a name.
    assert_eq!(status["interfaces"], serde_json::json!(["veth1"]));
    assert_eq!(status["problems"], serde_json::json!([]));
    let config = run(&format!("bpftool -j map dump pinned {}", node.pins.0.map("config").display()));
    let address = r#""0x0a","0x4d","0x00","0x02""#;
    assert!(config.contains(address), "the Node's address: {config}");

    let second = node.agent().output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let pid = format!("(pid {})", agent.child.id());
    assert!(stderr(&second).contains(&pid), "{}", stderr(&second));
    let elsewhere = node.status_from_another_pid_namespace();
    assert_eq!((&elsewhere["running"], &elsewhere["synced"]), (&true.into(), &true.into()), "{elsewhere}");
    assert_eq!(elsewhere["pid"], Value::Null);

    let before = ids(&node);
    agent.kill();
    assert_eq!(ids(&node), before);
    let agent = node.start();
    assert_eq!(ids(&node), before, "links and maps are the same");
    let log = agent.stop();
    assert!(log.contains("ready") && log.contains("maps adopted, 0 made"), "{log}");
    assert_eq!(ids(&node), before);

    assert!(
        patiently(|| {
            let output = node.sluice(&["cleanup"]).output().unwrap();
            if output.status.success() { Ok(()) } else { Err(output) }
        })
        .is_ok()
    );
    assert!(!node.pins.0.root().exists());
}

#[test]
fn interfaces_are_followed_by_the_hundred() {
    let node = Node::new();
    let mut agent = node.start();
    let count = |status: &Value| status["interfaces"].as_array().map_or(0, Vec::len);
    let mut batch = String::new();
    for i in 0..150 {
        batch.push_str(&format!("link add veth{i} type veth peer name peer{i}\n"));
    }
    let file = node.manifests.path().join("batch");
    fs::write(&file, batch).unwrap();
    run(&format!("ip -n {} -batch {}", node.netns.0, file.display()));
    agent.wait("150 attached", |status| count(status) == 150);
    // And those of the uplink.
    assert_eq!(node.pins.0.links().unwrap().len(), 9 + 2 + 300);

    run(&format!("ip -n {} link set veth7 name other7", node.netns.0));
    agent.wait("149 attached", |status| count(status) == 149);
    run(&format!("ip -n {} link set other7 name veth7", node.netns.0));
    agent.wait("150 attached", |status| count(status) == 150);

    let mut batch = String::new();
    for i in 0..150 {
        batch.push_str(&format!("link del veth{i}\n"));
    }
    fs::write(&file, batch).unwrap();
    run(&format!("ip -n {} -batch {}", node.netns.0, file.display()));
    agent.wait("none attached", |status| count(status) == 0);
    assert_eq!(node.pins.0.links().unwrap().len(), 9 + 2);
    agent.stop();
}

#[test]
fn what_came_and_went_while_no_agent_ran_is_put_right() {
    let node = Node::new();
    let gone = node.netns.veth("veth1");
    node.start().kill();
    run(&format!("ip -n {} link del veth1", node.netns.0));
    let new = node.netns.veth("veth2");
    let agent = node.start();
    let mut expected: Vec<String> = ["pod_egress", "pod_ingress"].map(|name| format!("{name}-{new}")).into();
    let mut links = node.pins.0.links().unwrap();
    links.retain(|name| name.starts_with("pod_"));
    links.sort();
    expected.sort();
    assert_eq!(links, expected, "and none for {gone}");
    let rows = |output: Output| -> Value { serde_json::from_slice(&output.stdout).unwrap() };
    let name = |rows: Value| {
        let mut rows = rows.as_array().unwrap().clone();
        rows.retain(|row| row["ifindex"] == new);
        rows[0]["interface"].clone()
    };
    let here = node.sluice(&["-j", "link"]).output().unwrap();
    assert_eq!(name(rows(here)), "veth2");
    let elsewhere = Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(["-j", "link", "--pin-dir"])
        .arg(node.pins.0.root())
        .output()
        .unwrap();
    assert_eq!(name(rows(elsewhere)), Value::Null, "another namespace's interface");
    agent.stop();
}

#[test]
fn cleanup_takes_away_what_another_version_left() {
    let node = Node::new();
    node.netns.veth("veth1");
    node.start().stop();
    let root = node.pins.0.root();
    let attached = || run(&format!("bpftool cgroup show {}", node.cgroup.0.display()));
    assert!(attached().contains("connect4"));
    fs::rename(node.pins.0.base(), root.join("v0")).unwrap();
    let done = node.sluice(&["cleanup"]).output().unwrap();
    assert!(done.status.success(), "{}", stderr(&done));
    assert!(!root.exists());
    assert_eq!(attached(), "");
}

#[test]
fn an_agent_takes_away_what_another_version_left_once_it_serves() {
    let node = Node::new();
    node.netns.veth("veth1");
    node.start().stop();
    let left = node.pins.0.root().join("v0");
    fs::rename(node.pins.0.base(), &left).unwrap();
    let attached =
        || run(&format!("bpftool cgroup show {}", node.cgroup.0.display())).matches("connect4").count();
    let mut agent = node.start();
    agent.wait("rid of what the other version left", |_| !left.exists());
    assert_eq!(attached(), 1);
    agent.stop();
    assert_eq!(attached(), 1);
}

#[test]
fn overlapping_ports_are_reserved_and_given_back() {
    let node = Node::new();
    let sysctl = |name: &str, value: Option<&str>| {
        node.netns.within(|| {
            let path = format!("/proc/sys/net/ipv4/{name}");
            if let Some(value) = value {
                fs::write(&path, value).unwrap();
            }
            fs::read_to_string(&path).unwrap().trim().to_owned()
        })
    };
    node.start().stop();
    assert_eq!(sysctl("ip_local_reserved_ports", None), "", "the default ranges do not overlap");
    sysctl("ip_local_port_range", Some("29000 61999"));
    sysctl("ip_local_reserved_ports", Some("29100,40000"));
    node.start().stop();
    assert_eq!(sysctl("ip_local_reserved_ports", None), "29000-32767,40000,61000-61999");
    sysctl("ip_local_port_range", Some("28999 61999"));
    let agent = node.start();
    let refused = node.sluice(&["cleanup"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
    assert_eq!(
        sysctl("ip_local_reserved_ports", None),
        "28999-32767,40000,61000-61999",
        "a running agent's stay reserved"
    );
    agent.stop();
    let done = node.sluice(&["cleanup"]).stdout(Stdio::null()).status().unwrap();
    assert!(done.success());
    assert_eq!(sysctl("ip_local_reserved_ports", None), "29100,40000");
}

#[test]
fn an_agent_may_have_all_descriptors_that_its_limit_allows() {
    let node = Node::new();
    let agent = node.agent();
    let mut limited = Command::new("prlimit");
    limited.arg("--nofile=256:4096").arg(agent.get_program()).args(agent.get_args());
    let agent = node.start_as(limited);
    let limits = fs::read_to_string(format!("/proc/{}/limits", agent.child.id())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().nth(3), Some("4096"), "{files}");
    agent.stop();
}

/// The first process of a pid namespace, as a container's, gets no signal that it has no handler for.
#[test]
fn a_container_that_is_asked_to_end_while_it_starts_ends() {
    let node = Node::new();
    let agent = node.agent();
    let mut first = Command::new("unshare");
    first.args(["--pid", "--fork", "--kill-child"]).arg(agent.get_program()).args(agent.get_args());
    let mut agent = node.spawn(first);
    let log = agent.log.clone();
    agent.wait("begun", |_| fs::read_to_string(&log).unwrap().contains(" start "));
    let id = agent.child.id();
    let first = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    run(&format!("kill -TERM {first}"));
    let mut ended = None;
    for _ in 0..3_000 {
        ended = agent.child.try_wait().unwrap();
        if ended.is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}\n{}", fs::read_to_string(log).unwrap());
}

#[test]
fn what_an_agent_cannot_do_is_said_before_anything_is_made() {
    let node = Node::new();
    for (flags, expected) in [
        (&["--manifests", "/tmp", "--cgroup-root", "/proc"][..], "/proc is not in a cgroup v2 tree"),
        (&["--manifests", "/nonexistent"], "/nonexistent"),
        (
            &["--manifests", "/tmp", "--bind-address-hard-fail", "--healthz-bind-address", "192.0.2.1:1"],
            "--healthz-bind-address 192.0.2.1:1",
        ),
    ] {
        let output = node.sluice(&["agent"]).args(flags).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
        assert!(!node.pins.0.root().exists());
    }
}
