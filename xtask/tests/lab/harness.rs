//! The lab itself, without an agent: who reaches whom by pod addresses, and that nothing stays behind.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use xtask::lab::{Network, Node, Space, binary, wait_for};

use crate::support::{TARGET, WAYS, lab, serve};

/// What making and removing a dozen namespaces may take where everything else is under way as well.
const BUSY: Duration = Duration::from_secs(60);

#[test]
fn pods_hosts_and_other_nodes_reach_one_another_and_see_true_addresses() {
    let node = Node::new(lab(), "plain").unwrap();
    let (client, server) = (node.pod("client").unwrap(), node.pod("server").unwrap());
    let remote = node.remote_pod("remote").unwrap();
    serve(&server);
    serve(&remote);
    for pod in [&server, &remote] {
        for way in WAYS {
            let to = SocketAddr::new(pod.ips()[way.family], TARGET);
            let answer = client.ask(way.socket, to).unwrap();
            assert_eq!((answer.pod.as_str(), answer.client.ip()), (pod.name(), client.ips()[way.family]));
            let answer = node.host().ask(way.socket, to).unwrap();
            assert_eq!(
                (answer.pod.as_str(), answer.client.ip()),
                (pod.name(), Node::addresses()[way.family])
            );
        }
    }
}

#[test]
fn machines_of_a_network_and_their_pods_reach_one_another() {
    let mut network = Network::new(lab(), "net").unwrap();
    for name in ["net1", "net2"] {
        network.add(name, ("--manifests", "/nonexistent".into())).unwrap();
    }
    let control = Space::new(lab(), "net-control", &lab().cgroup().join("net-control")).unwrap();
    network.connect_control(&control).unwrap();
    let pods: Vec<_> = network
        .machines()
        .iter()
        .map(|machine| machine.pod(&format!("of-{}", machine.name())).unwrap())
        .collect();
    let [one, two] = network.machines() else { panic!("two machines") };
    for (pod, machine) in pods.iter().zip([one, two]) {
        serve(pod);
        for way in WAYS {
            let to = SocketAddr::new(pod.ips()[way.family], TARGET);
            let clients = [
                (&*pods[0], pods[0].ips()),
                (one.host(), one.ips()),
                (network.outside(), Network::outside_ips()),
                (&control, Network::control_ips()),
            ];
            for (client, ips) in clients {
                // A machine speaks with its pods by the address of its uplink.
                let answer = client.ask(way.socket, to).unwrap();
                assert_eq!((answer.pod.as_str(), answer.client.ip()), (pod.name(), ips[way.family]));
            }
            assert!(machine.host().ask(way.socket, to).is_ok());
        }
    }
}

/// Keys, tokens and kubeconfigs are among them.
#[test]
fn the_files_of_a_run_are_for_root_alone() {
    assert_eq!(fs::metadata(lab().dir()).unwrap().permissions().mode() & 0o077, 0);
}

#[test]
fn a_dropped_node_leaves_nothing() {
    let node = Node::new(lab(), "gone").unwrap();
    let pod = node.pod("pod").unwrap();
    let (netns, cgroup) = (Path::new("/run/netns").join(pod.netns()), pod.cgroup().to_path_buf());
    assert!(netns.exists() && cgroup.exists());
    drop(pod);
    assert!(!netns.exists() && !cgroup.exists());
    let (netns, cgroup) = (Path::new("/run/netns").join(node.host().netns()), node.cgroup().to_path_buf());
    drop(node);
    assert!(!netns.exists() && !cgroup.exists());
}

/// The demo makes the same things as these tests, in a process that can be killed.
#[test]
fn a_killed_run_leaves_nothing() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_xtask"));
    let mut demo = demo.arg("demo").env("SLUICE_BIN", binary()).stdout(Stdio::null()).spawn().unwrap();
    let prefix = format!("sl-{}-", demo.id());
    let netns = || {
        let names = fs::read_dir("/run/netns")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter(|name| name.starts_with(&prefix)).count()
    };
    let run = Path::new("/run/sluice-lab").join(demo.id().to_string());
    wait_for(BUSY, || netns() >= 6).unwrap();
    demo.kill().unwrap();
    demo.wait().unwrap();
    wait_for(BUSY, || netns() == 0 && !run.exists()).unwrap();
    let pins =
        fs::read_dir("/sys/fs/bpf").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    assert_eq!(pins.filter(|name| name.starts_with(&format!("sluice-lab-{}-", demo.id()))).count(), 0);
}
