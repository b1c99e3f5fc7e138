//! The lab itself, without an agent: who reaches whom by pod addresses, and that nothing stays behind.

use std::path::Path;

use xtask::lab::Node;

use crate::support::{SOCKETS, lab, serve, server_of};

#[test]
fn pods_hosts_and_other_nodes_reach_one_another_and_see_true_addresses() {
    let node = Node::new(lab(), "plain").unwrap();
    let (client, server) = (node.pod("client").unwrap(), node.pod("server").unwrap());
    let remote = node.remote_pod("remote").unwrap();
    serve(&server);
    serve(&remote);
    for pod in [&server, &remote] {
        for (family, to) in server_of(pod).into_iter().enumerate() {
            for socket in SOCKETS {
                let answer = client.ask(socket, to).unwrap();
                assert_eq!(
                    (answer.pod.as_str(), answer.client.ip()),
                    (pod.name(), client.ips()[family])
                );
                let answer = node.host().ask(socket, to).unwrap();
                assert_eq!(
                    (answer.pod.as_str(), answer.client.ip()),
                    (pod.name(), Node::addresses()[family])
                );
            }
        }
    }
}

#[test]
fn a_dropped_node_leaves_nothing() {
    let node = Node::new(lab(), "gone").unwrap();
    let pod = node.pod("pod").unwrap();
    let (netns, cgroup) = (
        Path::new("/run/netns").join(pod.netns()),
        pod.cgroup().to_path_buf(),
    );
    assert!(netns.exists() && cgroup.exists());
    drop(pod);
    assert!(!netns.exists() && !cgroup.exists());
    let (netns, cgroup) = (
        Path::new("/run/netns").join(node.host().netns()),
        node.cgroup().to_path_buf(),
    );
    drop(node);
    assert!(!netns.exists() && !cgroup.exists());
}
