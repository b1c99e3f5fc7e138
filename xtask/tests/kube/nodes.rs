//! The node around the Services, as the API server knows it: ranges of addresses, the API server itself.

use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use xtask::kube::objects;
use xtask::lab::Network;
use xtask::lab::helper::wire::Socket;

use crate::own::own;
use crate::support::{
    Scene, TARGET, UDP4, UDP6, WAYS, ask, cluster, endpoint, eventually, eventually_in, serves, slice,
};

#[test]
fn b5_b73_ranges_of_addresses_come_from_service_cidrs() {
    let scene = Scene::new("b5");
    let pod = scene.pod(0, "a");
    let nobody = "10.97.0.77:80".parse().unwrap();
    // The default route leads there, where a router says that it knows no such network.
    let failure = pod.ask(Socket::Tcp, nobody).unwrap_err();
    assert!(failure.kind.contains("Unreachable"), "{failure:?}");
    let range = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": "extra"},
        "spec": {"cidrs": ["10.97.0.0/24"]},
    });
    cluster().api().apply(&range).unwrap();
    let mut object = scene.object("web");
    object["spec"]["clusterIP"] = "10.97.0.10".into();
    object["spec"]["ipFamilyPolicy"] = "SingleStack".into();
    let made = eventually("addresses are given from the new range", || {
        scene.namespace.service(&object).map_err(|error| format!("{error:#}"))
    });
    serves(&made, &[&pod]);
    eventually("what nobody has there is silent", || match pod.ask(Socket::Tcp, nobody) {
        Err(failure) if failure.is_silence() => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn b119_pods_and_hosts_reach_the_api_server_through_its_service() {
    let authority = cluster().plane().authority();
    for client in cluster().clients() {
        let mut curl = client.space.command("curl");
        curl.args(["-q", "-s", "-f", "-m", "20", "--noproxy", "*", "--cacert"]).arg(&authority);
        let version = xtask::sh::read(curl.arg("https://10.96.0.1/version")).unwrap();
        assert!(version.contains("gitVersion"), "{}: {version}", client.name);
    }
    let endpoints =
        cluster().api().get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes");
    assert_eq!(endpoints.unwrap()["endpoints"][0]["addresses"][0], json!(Network::control_ips()[0]));
}

#[test]
fn status_names_the_api_server_that_is_followed() {
    let status = cluster().nodes()[0].sluice_json(&["status"]).unwrap();
    assert_eq!(status["api_server"], json!(cluster().plane().url()));
    assert_eq!([&status["connected"], &status["listed"]], [true, true], "{status}");
}

/// Hints are for zones of the test's own: nobody changes those of the cluster's machines beside it.
#[test]
fn b4_b60_the_zone_is_the_label_of_the_own_node_and_followed() {
    const ZONE: &str = "topology.kubernetes.io/zone";
    let cluster = own();
    let namespace = cluster.namespace("zones").unwrap();
    let pods = ["red", "blue"].map(|name| namespace.pod(0, name, &json!({}), TARGET).unwrap());
    let mut object = objects::service("zones", "web", &Value::Null, TARGET);
    object["spec"]["selector"] = Value::Null;
    let service = namespace.service(&object).unwrap();
    for family in [0, 1] {
        let hinted = pods.each_ref().map(|pod| {
            let mut endpoint = endpoint(pod.ips()[family]);
            endpoint["hints"] = json!({"forZones": [{"name": pod.name()}]});
            endpoint
        });
        namespace.create(&slice(&format!("web-{family}"), "web", family, &hinted)).unwrap();
    }
    let label = |node: usize, zone: Value| {
        let path = format!("/api/v1/nodes/{}", cluster.nodes()[node].name());
        cluster.api().merge(&path, &json!({"metadata": {"labels": {ZONE: zone}}})).unwrap();
    };
    label(0, "red".into());
    let answered = |node: usize, wanted: &[&str]| {
        let client = cluster.client(node).unwrap();
        for way in WAYS {
            eventually_in(&cluster, &format!("{wanted:?} answer {way:?}"), || {
                let asked = (0..4).map(|_| ask(client, &service, way).map(|answer| answer.pod));
                let mut found =
                    asked.collect::<Result<Vec<_>, _>>().map_err(|failure| failure.to_string())?;
                found.sort();
                found.dedup();
                if found == wanted { Ok(()) } else { Err(format!("{found:?}")) }
            });
        }
    };
    answered(0, &["red"]);
    // The label of another node means nothing.
    label(1, "blue".into());
    answered(1, &["blue"]);
    answered(0, &["red"]);
    label(0, "blue".into());
    answered(0, &["blue"]);
    // No endpoint is for this zone; and a node without a zone has no hints to follow.
    label(0, "green".into());
    answered(0, &["blue", "red"]);
    label(0, "red".into());
    answered(0, &["red"]);
    label(0, Value::Null);
    answered(0, &["blue", "red"]);
    for node in [0, 1] {
        label(node, "zone-a".into());
    }
}

#[test]
fn b38_b112_b115_an_agent_starts_before_its_node_object_and_follows_its_addresses() {
    const OTHER: [&str; 2] = ["172.18.0.77", "fd00:172:18::77"];
    const NODE_PORT: u16 = 30_077;
    let cluster = own();
    let namespace = cluster.namespace("late").unwrap();
    let labels = json!({"app": "late"});
    let pod = namespace.pod(1, "a", &labels, TARGET).unwrap();
    let mut object = objects::service("late", "web", &labels, TARGET);
    object["spec"]["type"] = "NodePort".into();
    for port in object["spec"]["ports"].as_array_mut().unwrap() {
        port["nodePort"] = NODE_PORT.into();
    }
    let service = namespace.service(&object).unwrap();
    // Node ports are at the addresses that the object names, and at no others.
    let outside = cluster.network().outside();
    let node_ports = |at: [IpAddr; 2], not: [IpAddr; 2]| {
        for way in WAYS {
            eventually_in(&cluster, "node ports are at the node's addresses", || {
                let asked = [at, not]
                    .map(|ips| outside.ask(way.socket, SocketAddr::new(ips[way.family], NODE_PORT)).is_ok());
                if asked == [true, false] { Ok(()) } else { Err(format!("{way:?}: {asked:?}")) }
            });
        }
    };
    // A pod that reaches itself shows the address of its node.
    let hairpin = |wanted: [IpAddr; 2]| {
        for way in [UDP4, UDP6] {
            eventually_in(&cluster, "the pod shows its node's address", || {
                let answer = ask(&pod, &service, way).map_err(|failure| failure.to_string())?;
                let seen = answer.client.ip();
                if seen == wanted[way.family] { Ok(()) } else { Err(format!("{seen}")) }
            });
        }
    };
    let machine = &cluster.nodes()[1];
    hairpin(machine.ips());
    let others = OTHER.map(|ip| ip.parse::<IpAddr>().unwrap());
    let [v4, v6] = OTHER;
    machine.host().ip(&format!("addr add {v4}/24 dev up0\naddr add {v6}/64 dev up0 nodad\n")).unwrap();
    node_ports(machine.ips(), others);
    let path = format!("/api/v1/nodes/{}", machine.name());
    cluster.take_agent(1).unwrap().stop().unwrap();
    cluster.api().delete(&path).unwrap();
    thread::scope(|scope| {
        let agent = scope.spawn(|| cluster.start_agent(1));
        let mut status = objects::node_status(machine);
        let addresses: Vec<_> = OTHER.iter().map(|ip| json!({"type": "InternalIP", "address": ip})).collect();
        status["status"]["addresses"] = addresses.into();
        // By now the agent has asked for it.
        thread::sleep(Duration::from_secs(1));
        cluster.api().post("/api/v1/nodes", &objects::node(machine, "zone-a")).unwrap();
        cluster.api().merge(&format!("{path}/status"), &status).unwrap();
        agent.join().unwrap().unwrap();
    });
    hairpin(others);
    node_ports(others, machine.ips());
    cluster.api().merge(&format!("{path}/status"), &objects::node_status(machine)).unwrap();
    hairpin(machine.ips());
    node_ports(machine.ips(), others);
    machine.host().ip(&format!("addr del {v4}/24 dev up0\naddr del {v6}/64 dev up0\n")).unwrap();
}
