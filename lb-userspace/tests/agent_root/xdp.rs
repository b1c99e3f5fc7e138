//! XDP on uplinks: attached natively, adopted, left where it is not wanted, beside programs of others.

use lb_common::UPLINK_XDP;
use lb_userspace::bpf::attach::Class;
use serde_json::{Value, json};

use super::datapath::{SMALL, link, load};
use super::node::Node;
use super::support::{Netns, TestPins, run};

/// Has the other end of the veth pair `name`, which is up, take what XDP sends, or not.
fn gro(netns: &Netns, name: &str, state: &str) {
    run(&format!("ip -n {} link set {name} up", netns.0));
    run(&format!("ip -n {} link set peer-{name} up", netns.0));
    run(&format!("nsenter --net=/run/netns/{} ethtool -K peer-{name} gro {state}", netns.0));
}

/// Attaches the pinned program of `pins` in this mode, as somebody else would; not by `ip -n`, which sees no pins.
fn attach_theirs(netns: &Netns, name: &str, mode: &str, pins: &TestPins) {
    let program = pins.0.prog(UPLINK_XDP);
    run(&format!(
        "nsenter --net=/run/netns/{} ip link set dev {name} {mode} pinned {}",
        netns.0,
        program.display()
    ));
}

/// What `ip` says is on the interface: its mode, and the id of the program.
fn attached(netns: &Netns, name: &str) -> Option<(u64, u64)> {
    let link: Value = serde_json::from_str(&run(&format!("ip -n {} -j link show {name}", netns.0))).unwrap();
    let xdp = &link[0]["xdp"];
    Some((xdp["mode"].as_u64()?, xdp["prog"]["id"].as_u64()?))
}

/// What `ip` calls native.
const NATIVE: u64 = 1;

#[test]
fn programs_are_swapped_inside_their_links_and_others_stay() {
    let (pins, other, netns) = (TestPins::new(), TestPins::new(), Netns::new());
    let index = netns.veth("up1");
    let name = format!("{UPLINK_XDP}-{index}");
    let attach = || {
        let datapath = load(&pins.0, &SMALL).unwrap();
        netns.within(|| datapath.attach_interface(Class::Xdp, index, "up1"))
    };
    attach().unwrap();
    let first = link(&pins.0, &name);
    assert_eq!(attached(&netns, "up1"), Some((NATIVE, first.1)));
    attach().unwrap();
    let second = link(&pins.0, &name);
    assert_eq!(first.0, second.0, "the link stays");
    assert_eq!(attached(&netns, "up1"), Some((NATIVE, second.1)));
    assert_ne!(first.1, second.1);

    // Of another agent, standing for somebody else.
    let theirs = load(&other.0, &SMALL).unwrap();
    let refused = netns.within(|| theirs.attach_interface(Class::Xdp, index, "up1")).unwrap_err();
    assert_eq!(refused.errno(), Some(libc::EBUSY), "{refused}");
    load(&pins.0, &SMALL).unwrap().detach_interface(Class::Xdp, index).unwrap();
    assert_eq!(attached(&netns, "up1"), None);
    attach_theirs(&netns, "up1", "xdpgeneric", &other);
    let refused = attach().unwrap_err();
    assert_eq!(refused.errno(), Some(libc::EEXIST), "{refused}");
}

/// The row of the status for the one uplink, if it says so.
fn is(status: &Value, name: &str, native: bool, words: &str) -> bool {
    let row = &status["xdp"][0];
    let why = row["why"].as_str().unwrap_or_default();
    row["interface"] == name && row["native"] == native && why.contains(words)
}

#[test]
fn an_uplink_has_xdp_where_it_can_and_for_as_long_as_it_is_one() {
    let node = Node::new();
    let ip = |line: &str| run(&format!("ip -n {} {line}", node.netns.0));
    let links = || -> Vec<String> {
        let mut links = node.pins.0.links().unwrap();
        links.retain(|name| name.starts_with(UPLINK_XDP));
        links
    };
    gro(&node.netns, "up0", "off");
    let mut agent = node.start();
    let status = node.status();
    assert!(is(&status, "up0", false, "the other end of this veth pair"), "{status}");
    assert_eq!(links(), Vec::<String>::new());
    gro(&node.netns, "up0", "on");
    agent.wait("native", |status| is(status, "up0", true, ""));
    let pinned = links();
    let first = link(&node.pins.0, &pinned[0]);
    assert_eq!(attached(&node.netns, "up0"), Some((NATIVE, first.1)));

    // Another agent, and the interface is called otherwise, goes down and returns.
    agent.kill();
    let mut agent = node.start();
    assert!(is(&node.status(), "up0", true, ""));
    let adopted = link(&node.pins.0, &pinned[0]);
    assert_eq!(first.0, adopted.0, "the link stays");
    assert_ne!(first.1, adopted.1, "the program is the new agent's");
    ip("link set up0 name up7");
    agent.wait("native under its new name", |status| is(status, "up7", true, ""));
    ip("link set up7 down");
    ip("link set up7 up");
    agent.wait("native again", |status| is(status, "up7", true, ""));
    assert_eq!(link(&node.pins.0, &pinned[0]).0, first.0);
    ip("link set up7 name up0");

    // Away, into another namespace and back.
    let elsewhere = Netns::new();
    ip(&format!("link set up0 netns {}", elsewhere.0));
    agent.wait("without uplinks", |status| status["xdp"] == json!([]) && links().is_empty());
    assert_eq!(attached(&elsewhere, "up0"), None);
    run(&format!("ip -n {} link set up0 netns {}", elsewhere.0, node.netns.0));
    ip("addr add 10.77.0.2/24 dev up0");
    ip("link set up0 up");
    agent.wait("native after its return", |status| is(status, "up0", true, ""));

    // Its other end takes no frames any more.
    gro(&node.netns, "up0", "off");
    agent.wait("tc alone", |status| is(status, "up0", false, "the other end"));
    assert_eq!((attached(&node.netns, "up0"), links().len()), (None, 0));
    gro(&node.netns, "up0", "on");
    agent.wait("native for the last time", |status| is(status, "up0", true, ""));
    agent.stop();
    assert!(attached(&node.netns, "up0").is_some());

    let mut off = node.agent();
    off.args(["--xdp", "off"]);
    let agent = node.start_as(off);
    assert!(is(&node.status(), "up0", false, "--xdp off"), "{}", node.status());
    assert_eq!((attached(&node.netns, "up0"), links().len()), (None, 0));
    agent.stop();
}

#[test]
fn a_program_that_is_there_already_stays_and_when_it_goes_ours_follows() {
    let (node, other) = (Node::new(), TestPins::new());
    gro(&node.netns, "up0", "on");
    drop(load(&other.0, &SMALL).unwrap());
    attach_theirs(&node.netns, "up0", "xdpdrv", &other);
    let theirs = attached(&node.netns, "up0").unwrap();
    let mut agent = node.start();
    let status = node.status();
    let words = format!("{UPLINK_XDP} (id {})", theirs.1);
    assert!(is(&status, "up0", false, &words), "{status}");
    assert_eq!(attached(&node.netns, "up0"), Some(theirs));
    let doctor: Value =
        serde_json::from_slice(&node.sluice(&["doctor", "-j"]).output().unwrap().stdout).unwrap();
    assert!(
        doctor["findings"].to_string().contains("up0 is served by tc alone: another XDP program"),
        "{doctor}"
    );

    run(&format!("ip -n {} link set dev up0 xdpdrv off", node.netns.0));
    agent.wait("native", |status| is(status, "up0", true, ""));
    assert_ne!(attached(&node.netns, "up0").unwrap().1, theirs.1);
    agent.stop();
    assert!(node.sluice(&["cleanup"]).status().unwrap().success());
    assert_eq!(attached(&node.netns, "up0"), None);
}
