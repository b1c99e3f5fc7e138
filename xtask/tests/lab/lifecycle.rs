//! Agents that start, die, come back and go away, each on a node of its own.

use std::process::Command;
use std::time::Duration;

use xtask::lab::helper::wire::{Load, LoadReport, Transport};
use xtask::lab::manifest::{self, Port};
use xtask::lab::{Agent, Node, wait_for};

use crate::support::{Mode, SMALL, SOON, TARGET, WAYS, World};

fn nothing_lost(report: &LoadReport) {
    let first = report.failed.first();
    assert!(first.is_none(), "{} of {} requests failed: {first:?}", report.failed.len(), report.sent());
    assert!(report.answered.len() > 100, "only {} requests were answered", report.answered.len());
}

/// The bytes of the tables that a plan writes, as bpftool reads them.
fn tables(node: &Node) -> Vec<Vec<u8>> {
    let schema = std::fs::read_dir(node.pin_dir()).unwrap().next().unwrap().unwrap().path();
    ["slots4", "slots6", "backends", "frontends4", "frontends6", "addresses4", "addresses6", "service_meta"]
        .map(|name| {
            let path = schema.join("maps").join(name);
            let dump =
                Command::new("bpftool").args(["-j", "map", "dump", "pinned"]).arg(&path).output().unwrap();
            assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stdout));
            dump.stdout
        })
        .to_vec()
}

/// Tables of a size that is dumped quickly.
const TABLES: &[&str] = &["--max-services", "256", "--max-backends", "1024"];

#[test]
fn b7_traffic_goes_on_without_the_agent_and_its_successor_adopts() {
    let world = World::new("restart", Mode::All, TABLES);
    let services = [
        world.service("one", &[&world.a, &world.b]),
        world.service("two", &[&world.c]),
        world.service("none", &[]),
    ];
    let (ids_before, tables_before) = (world.node.services(&[]).unwrap(), tables(&world.node));
    world.client.start_load(Load { to: services[0].at(WAYS[0]), clients: 4, rate: 400 }).unwrap();
    world.take_agent().kill().unwrap();
    // The command line works, and so does every path.
    assert_eq!(world.node.services(&[]).unwrap(), ids_before);
    for (_, client, _) in world.clients() {
        for way in WAYS {
            assert_eq!(services[1].ask(client, way).unwrap().pod, "c");
            assert!(services[2].ask(client, way).unwrap_err().refused_at_once());
        }
    }
    world.start_agent();
    std::thread::sleep(Duration::from_millis(300));
    nothing_lost(&world.client.stop_load().unwrap());
    assert_eq!(world.node.services(&[]).unwrap(), ids_before, "ids are kept");
    assert!(tables(&world.node) == tables_before, "nothing is rewritten that was right");
    services[1].set(&[&world.a]);
    assert_eq!(services[1].ask(&world.client, WAYS[0]).unwrap().pod, "a", "the successor programs changes");
}

#[test]
fn b6_b7_agents_die_in_the_midst_of_syncs_and_nothing_is_lost() {
    let world = World::new("killed", Mode::All, &[]);
    let service = world.service("steady", &[&world.a, &world.b]);
    let others: Vec<_> =
        (0..12).map(|number| world.service(&format!("other-{number}"), &[&world.c])).collect();
    world.client.start_load(Load { to: service.at(WAYS[0]), clients: 4, rate: 400 }).unwrap();
    for round in 0..5u64 {
        // A burst of changes, to the Service under load too: two backends stay in it throughout.
        let (steady, moving): (&[_], &[_]) = match round % 2 {
            0 => (&[&world.a, &world.b, &world.c], &[&world.a]),
            _ => (&[&world.a, &world.b], &[&world.b, &world.c]),
        };
        service.write(&service.slices(steady));
        for other in &others {
            other.write(&other.slices(moving));
        }
        std::thread::sleep(Duration::from_millis(2 * round));
        world.take_agent().kill().unwrap();
        world.start_agent();
    }
    nothing_lost(&world.client.stop_load().unwrap());
    service.wait(&[&world.a, &world.b, &world.c]);
    for other in &others {
        other.wait(&[&world.a]);
        assert_eq!(other.ask(&world.client, WAYS[1]).unwrap().pod, "a");
    }
}

#[test]
fn b9_what_changed_while_no_agent_ran_is_made_good() {
    let world = World::new("late", Mode::All, &[]);
    let (kept, gone) = (world.service("kept", &[&world.a]), world.service("gone", &[&world.a]));
    assert!(world.take_agent().stop().unwrap().success(), "SIGTERM ends the agent cleanly");
    assert_eq!(kept.ask(&world.client, WAYS[0]).unwrap().pod, "a", "and leaves the datapath in place");
    kept.write(&kept.slices(&[&world.b]));
    world.node.remove(&gone.file()).unwrap();
    world.start_agent();
    kept.wait(&[&world.b]);
    assert_eq!(kept.ask(&world.client, WAYS[0]).unwrap().pod, "b");
    assert!(gone.ask(&world.client, WAYS[0]).is_err());
}

#[test]
fn cleanup_leaves_nothing() {
    let world = World::new("cleanup", Mode::All, &[]);
    let service = world.service("any", &[&world.a]);
    for way in WAYS {
        service.ask(&world.client, way).unwrap();
    }
    world.take_agent().stop().unwrap();
    assert!(world.node.pin_dir().exists());
    let cleanup = world.node.sluice(&["cleanup"]).output().unwrap();
    assert!(cleanup.status.success(), "{}", String::from_utf8_lossy(&cleanup.stderr));
    assert!(!world.node.pin_dir().exists(), "the pin directory is gone");
    let attached =
        Command::new("bpftool").args(["-j", "cgroup", "tree"]).arg(world.node.cgroup()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&attached.stdout).trim(), "[]", "programs on control groups");
    let net = world.node.host().command("bpftool").args(["-j", "net", "show"]).output().unwrap();
    let net = String::from_utf8_lossy(&net.stdout).into_owned();
    assert!(!net.contains("veth"), "programs on interfaces: {net}");
    assert!(service.ask(&world.client, WAYS[0]).is_err());
    let reserved =
        world.node.host().command("cat").arg("/proc/sys/net/ipv4/ip_local_reserved_ports").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&reserved.stdout).trim(), "", "reserved ports");
    // Twice is no error.
    assert!(world.node.sluice(&["cleanup"]).output().unwrap().status.success());
}

#[test]
fn a_second_agent_is_refused() {
    let world = World::new("second", Mode::All, &[]);
    let service = world.service("any", &[&world.a]);
    let mut second = Agent::spawn(&world.node, SMALL).unwrap();
    assert!(!second.exit(SOON).unwrap().success());
    let log = second.log();
    assert!(
        log.contains(&world.node.pin_dir().display().to_string()),
        "the message names what is taken:\n{log}"
    );
    drop(second);
    service.set(&[&world.b]);
    assert_eq!(service.ask(&world.client, WAYS[0]).unwrap().pod, "b", "the first one notices nothing");
}

#[test]
fn a_full_table_leaves_one_service_out_and_the_rest_works() {
    // Each Service needs four of them: two ports of two families.
    let world = World::new("full", Mode::All, &["--max-services", "16"]);
    let fitting = [world.service("fits-one", &[&world.a]), world.service("fits-two", &[&world.b])];
    let addresses = [[10, 96, 3, 1].into(), "fd00:10:96:3::1".parse().unwrap()];
    let ports: Vec<_> = (0..12).map(|port| Port::new(Transport::Tcp, 80 + port, TARGET)).collect();
    world.node.write("wide.json", &manifest::service("wide", &addresses, &ports)).unwrap();
    let reported = || {
        world
            .node
            .sluice_json(&["status"])
            .is_ok_and(|status| status["problems"].to_string().contains("wide"))
    };
    wait_for(SOON, reported).unwrap_or_else(|error| panic!("not reported, {error}:\n{}", world.log()));
    for (service, pod) in fitting.iter().zip(["a", "b"]) {
        for way in WAYS {
            assert_eq!(service.ask(&world.client, way).unwrap().pod, pod);
        }
    }
    fitting[0].set(&[&world.c]);
    assert_eq!(
        fitting[0].ask(&world.client, WAYS[0]).unwrap().pod,
        "c",
        "changes of what fits are programmed"
    );
    world.node.remove("wide.json").unwrap();
    wait_for(SOON, || !reported()).unwrap();
}
