//! `--redirect-peer`: what is for a pod of this node goes past the host stack, and through it as soon as a rule wants to be asked.

use std::fs;
use std::net::SocketAddr;

use aya::programs::LinkOrder;
use aya::programs::tc::TcAttachType;
use serde_json::Value;
use xtask::lab::helper::wire::Socket;
use xtask::lab::{Machine, Pod, Space, wait_for};

use crate::foreign::{DROP, NEXT, attach};
use crate::support::{Case, Mode, SOON, Svc, TARGET, WAYS, World};

/// Packets that the node's stack has forwarded, of both families.
fn forwarded(world: &World) -> u64 {
    let read =
        || Ok(["snmp", "snmp6"].map(|file| fs::read_to_string(format!("/proc/thread-self/net/{file}"))));
    let [v4, v6] = world.node.host().within(read).unwrap().map(Result::unwrap);
    let mut rows = v4.lines().filter_map(|line| line.strip_prefix("Ip: "));
    let (names, values) = (rows.next().unwrap(), rows.next().unwrap());
    let at = names.split(' ').position(|name| name == "ForwDatagrams").unwrap();
    let v4: u64 = values.split(' ').nth(at).unwrap().parse().unwrap();
    let v6 = v6.lines().find_map(|line| line.strip_prefix("Ip6OutForwDatagrams")).unwrap();
    v4 + v6.trim().parse::<u64>().unwrap()
}

/// Packets that went past it.
pub(crate) fn past(machine: &Machine) -> u64 {
    let stats = machine.sluice_json(&["stats"]).unwrap();
    let reason = stats["reasons"].as_array().unwrap().iter().find(|reason| reason["reason"] == "past_stack");
    reason.map_or(0, |reason| reason["count"].as_u64().unwrap())
}

/// Interfaces from which packets go past it.
pub(crate) fn interfaces(machine: &Machine) -> usize {
    let links = machine.sluice_json(&["link"]).unwrap();
    links.as_array().unwrap().iter().filter(|link| link["program"] == "pod_shortcut").count()
}

/// Waits until they are so many: each pod's, and the uplink.
fn settles(world: &World, expected: usize) {
    wait_for(SOON * 2, || interfaces(&world.node) == expected).unwrap_or_else(|error| {
        panic!("{error}: {} of {expected}\n{}", interfaces(&world.node), world.log())
    });
}

fn nft(world: &World, rules: &str) {
    assert!(world.node.host().command("nft").arg(rules).status().unwrap().success(), "nft {rules}");
}

/// A change of the network, so that the agent looks: nobody tells it of programs.
fn nudge(world: &World, number: u8) {
    world.node.host().ip(&format!("addr add 203.0.113.{number}/32 dev lo\n")).unwrap();
}

/// Adds or deletes what may have filters of classic tc, at one pod's interface.
fn clsact(world: &World, verb: &str) {
    let mut command = world.node.host().command("tc");
    assert!(command.args(["qdisc", verb, "dev", world.c.interface(), "clsact"]).status().unwrap().success());
}

/// A pod's interface may have filters of classic tc for a while, and nothing goes past the stack from there meanwhile: the
/// kernel sends word of them, since nothing else changes.
fn classic_filters_come_and_go(world: &World) {
    clsact(world, "add");
    settles(world, 4);
    clsact(world, "del");
    settles(world, 5);
}

fn problems(world: &World) -> String {
    world.node.sluice_json(&["status"]).unwrap()["problems"].to_string()
}

/// Asks `a` by all ways: through the Service from another pod and from itself, and directly.
fn talk(world: &World, service: &Svc<'_>) {
    for way in WAYS {
        for client in [&world.client, &world.a] {
            Case(world, client.name(), way).answered_by("a", service.ask(client, way));
        }
        let direct = SocketAddr::new(world.a.ips()[way.family], TARGET);
        Case(world, "direct", way).answered_by("a", world.client.ask(way.socket, direct));
    }
}

#[test]
fn packets_between_pods_of_a_node_go_past_its_stack_until_a_rule_wants_to_be_asked() {
    for mode in [Mode::All, Mode::Host] {
        let world = World::new(&format!("peer-{mode:?}").to_lowercase(), mode, &["--redirect-peer"]);
        let service = world.service("any", &[&world.a]);
        settles(&world, 5);
        let all_past = || {
            let before = (forwarded(&world), past(&world.node));
            talk(&world, &service);
            assert_eq!(forwarded(&world), before.0, "the stack forwards nothing");
            assert!(past(&world.node) > before.1);
        };
        all_past();
        // From outside to a pod; what the pod answers leaves by the stack.
        let (before, stack) = (past(&world.node), forwarded(&world));
        for way in WAYS {
            let at = SocketAddr::new(world.a.ips()[way.family], TARGET);
            world.node.router().ask(way.socket, at).unwrap();
        }
        assert!(past(&world.node) > before && forwarded(&world) > stack);
        // The agent goes, and another one comes.
        world.take_agent().kill().unwrap();
        all_past();
        world.start_agent();
        settles(&world, 5);
        all_past();
        // A chain without rules decides nothing.
        nft(
            &world,
            "add table inet guard; add chain inet guard between { type filter hook forward priority 0; }",
        );
        classic_filters_come_and_go(&world);
        all_past();
        let b = SocketAddr::new(world.b.ips()[0], TARGET);
        world.client.ask(Socket::Udp, b).unwrap();
        nft(&world, &format!("add rule inet guard between ip daddr {} drop", world.b.ipv4()));
        settles(&world, 0);
        assert!(world.client.ask(Socket::Udp, b).is_err(), "the rule holds");
        let stack = forwarded(&world);
        talk(&world, &service);
        assert!(forwarded(&world) > stack);
        let chain = "nftables chain inet guard between holds 1 rule";
        wait_for(SOON, || problems(&world).contains(chain)).unwrap();
        let findings = world.node.sluice_json(&["doctor"]).unwrap()["findings"].clone();
        let refused = |finding: &&Value| finding["check"] == "redirect-peer" && finding["level"] == "error";
        let refused = findings.as_array().unwrap().iter().find(refused).unwrap();
        assert!(refused["found"].as_str().unwrap().contains(chain), "{findings}");
        // And back.
        nft(&world, "delete table inet guard");
        settles(&world, 5);
        all_past();
        world.client.ask(Socket::Udp, b).unwrap();
        assert!(!problems(&world).contains("redirect-peer"));
        // Of what comes from outside it would see the answers alone.
        nft(
            &world,
            &format!(
                "add table inet plug-in; add chain inet plug-in out {{ type nat hook postrouting priority 100; }}; \
                 add rule inet plug-in out ip saddr {} masquerade",
                world.a.ipv4()
            ),
        );
        settles(&world, 0);
        for way in WAYS {
            let at = SocketAddr::new(world.a.ips()[way.family], TARGET);
            world.node.router().ask(way.socket, at).unwrap();
        }
        nft(&world, "delete table inet plug-in");
        settles(&world, 5);
        drop(world.take_agent());
        assert!(world.node.sluice(&["cleanup"]).output().unwrap().status.success());
        talk_directly(&world.client, &world.a);
    }
}

fn talk_directly(client: &Space, server: &Pod) {
    for way in WAYS {
        client.ask(way.socket, SocketAddr::new(server.ips()[way.family], TARGET)).unwrap();
    }
}

#[test]
fn programs_of_others_are_not_passed_by() {
    let world = World::new("peer-foreign", Mode::Host, &["--redirect-peer"]);
    let service = world.service("any", &[&world.a]);
    settles(&world, 5);
    let way = WAYS[1];
    // Behind ours until the agent looks; then ours is the last one again.
    let coming = attach(&world, &world.b, DROP, TcAttachType::Ingress, LinkOrder::last());
    nudge(&world, 1);
    wait_for(SOON, || service.ask(&world.b, way).is_err()).unwrap();
    drop(coming);
    service.ask(&world.b, way).unwrap();
    // One that would see what is for a pod keeps that in the stack; it has its way.
    let going = [NEXT, DROP]
        .map(|verdict| attach(&world, &world.c, verdict, TcAttachType::Egress, LinkOrder::last()));
    nudge(&world, 2);
    let wanted = format!("interface {}", world.c.interface());
    wait_for(SOON, || problems(&world).contains(&wanted)).unwrap();
    assert!(service.ask(&world.c, way).is_err());
    service.ask(&world.client, way).unwrap();
    drop(going);
    nudge(&world, 3);
    wait_for(SOON, || !problems(&world).contains(&wanted)).unwrap();
    // So does what may have filters of classic tc, which come behind all of ours.
    classic_filters_come_and_go(&world);
    service.ask(&world.c, way).unwrap();
}
