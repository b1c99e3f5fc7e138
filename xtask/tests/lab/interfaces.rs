//! Interfaces of the node: those that pods are behind, and those whose addresses are Services'.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use xtask::lab::helper::wire::Socket;
use xtask::lab::{Space, manifest, wait_for};

use crate::support::{Case, Mode, SOON, WAYS, World, lab, long, worlds};

/// Names of the interfaces that the agent says it serves.
fn served(world: &World) -> BTreeSet<String> {
    let status = world.node.sluice_json(&["status"]).unwrap_or_default();
    let names = status["interfaces"].as_array().into_iter().flatten();
    names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

/// Pins of programs on interfaces.
fn pins(world: &World) -> BTreeSet<String> {
    let schema = std::fs::read_dir(world.node.pin_dir()).unwrap().next().unwrap().unwrap().path();
    let names = std::fs::read_dir(schema.join("links")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("pod_")).collect()
}

/// Names and indices of the interfaces that there are.
fn interfaces(space: &Space) -> Vec<(String, u64)> {
    let output = space.command("ip").args(["-j", "link"]).output().unwrap();
    let links: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    links
        .iter()
        .map(|link| (link["ifname"].as_str().unwrap().to_owned(), link["ifindex"].as_u64().unwrap()))
        .collect()
}

/// Waits until exactly those interfaces are served, and have pins, whose name says so; how long it took.
fn settles(world: &World, limit: Duration) -> Duration {
    let begun = Instant::now();
    let (mut last, mut names, mut links) = Default::default();
    wait_for(limit, || {
        (names, links) = (BTreeSet::new(), BTreeSet::new());
        for (name, index) in interfaces(world.node.host()) {
            if name.starts_with("veth") {
                names.insert(name);
                links.extend(["pod_ingress", "pod_egress"].map(|program| format!("{program}-{index}")));
            }
        }
        last = (served(world), pins(world));
        last.0 == names && last.1 == links
    })
    .unwrap_or_else(|error| panic!("{error}: is {last:?}, should be {names:?}, {links:?}\n{}", world.log()));
    begun.elapsed()
}

/// Waits until the kernel has no interface any more whose name begins so: a namespace ends some time after its deletion.
fn vanish(world: &World, name: &str) {
    let there = || interfaces(world.node.host()).iter().any(|(other, _)| other.starts_with(name));
    wait_for(LIMIT, || !there()).unwrap();
}

/// What interfaces may take to come and go, in the kernel and in the agent.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn pods_on_a_bridge_reach_each_other_and_themselves() {
    for world in worlds() {
        world.node.bridge().unwrap();
        let [x, y] = ["x", "y"].map(|name| {
            let pod = world.node.bridged_pod(name).unwrap();
            crate::support::serve(&pod);
            pod
        });
        let ports = BTreeSet::from([x.interface().to_owned(), y.interface().to_owned()]);
        wait_for(SOON, || served(world).is_superset(&ports)).unwrap();
        assert!(!served(world).contains("vethbr0"), "a bridge, though its name is one of pods' interfaces");
        let services = [(&x, world.service("bridge-x", &[&x])), (&y, world.service("bridge-y", &[&y]))];
        let plain = world.service("bridge-a", &[&world.a]);
        for way in WAYS {
            let case = Case(world, "pod on the bridge", way);
            for (backend, service) in &services {
                let (pod, seen) = case.answered(service.ask(&x, way));
                assert_eq!(pod, backend.name(), "{case}");
                if backend.name() == "y" {
                    assert_eq!(seen, x.ips()[way.family], "{case}");
                }
                case.answered_by(backend.name(), service.ask(&world.client, way));
                case.answered_by(backend.name(), service.ask(world.node.host(), way));
            }
            case.answered_by("a", plain.ask(&x, way));
        }
    }
}

#[test]
fn traffic_that_waits_for_its_interface_is_served() {
    let world = World::new("waiting", Mode::Host, &[]);
    let service = world.service("any", &[&world.a]);
    let ways = WAYS.into_iter().filter(|way| way.socket == Socket::Tcp);
    // What is not translated shall vanish without a word.
    for addr in service.addresses {
        world.node.host().ip(&format!("route add blackhole {addr}\n")).unwrap();
    }
    for way in ways {
        world.agent.lock().unwrap().as_ref().unwrap().pause().unwrap();
        let pod = world.node.pod(&format!("late-{}", way.family)).unwrap();
        let connection = std::thread::scope(|scope| {
            let opening = scope.spawn(|| pod.open(Socket::Tcp, Some(service.at(way))));
            std::thread::sleep(Duration::from_millis(200));
            world.agent.lock().unwrap().as_ref().unwrap().resume().unwrap();
            opening.join().unwrap()
        });
        let case = Case(&world, "late pod", way);
        let connection = connection.unwrap_or_else(|error| panic!("{case}: {error}"));
        assert!(connection.took_ms() > 500, "{case}: the first SYN met no program");
        case.answered_by("a", connection.ask());
    }
}

#[test]
fn interfaces_come_and_go() {
    let world = World::new("interfaces", Mode::Host, &[]);
    let service = world.service("any", &[&world.a]);
    for _ in 0..3 {
        let pod = world.node.pod("passing").unwrap();
        settles(&world, SOON);
        for way in WAYS {
            Case(&world, "passing pod", way).answered_by("a", service.ask(&pod, way));
        }
        let interface = pod.interface().to_owned();
        drop(pod);
        vanish(&world, &interface);
        settles(&world, SOON);
    }
}

#[test]
fn renamed_interfaces_begin_and_cease_to_be_served() {
    let world = World::new("renamed", Mode::Host, &[]);
    let service = world.service("any", &[&world.a]);
    let (host, name) = (world.node.host(), world.client.interface());
    for new in ["other0", "vethback"] {
        let old = if new == "other0" { name } else { "other0" };
        host.ip(&format!("link set dev {old} name {new}\n")).unwrap();
        settles(&world, SOON);
        for way in WAYS {
            let case = Case(&world, new, way);
            match (new, service.ask(&world.client, way)) {
                ("other0", answer) => assert!(answer.is_err(), "{case}: programs are still there"),
                (_, answer) => case.answered_by("a", answer),
            }
        }
    }
}

#[test]
fn interfaces_leave_for_another_namespace_and_return() {
    let world = World::new("moved", Mode::Host, &[]);
    let service = world.service("any", &[&world.a]);
    let elsewhere = Space::new(lab(), "moved-elsewhere", &world.node.cgroup().join("elsewhere")).unwrap();
    let (host, name) = (world.node.host(), world.client.interface());
    host.ip(&format!("link set dev {name} netns {}\n", elsewhere.netns())).unwrap();
    settles(&world, SOON);
    elsewhere.ip(&format!("link set dev {name} netns {}\n", host.netns())).unwrap();
    let [v4, v6] = world.client.ips();
    host.ip(&format!("link set {name} up\nroute add {v4}/32 dev {name}\nroute add {v6}/128 dev {name}\n"))
        .unwrap();
    settles(&world, SOON);
    for way in WAYS {
        Case(&world, "pod that returned", way).answered_by("a", service.ask(&world.client, way));
    }
}

#[test]
fn hundreds_of_interfaces_at_once() {
    let many = if long() { 300 } else { 100 };
    let world = World::new("many", Mode::Host, &[]);
    let service = world.service("any", &[&world.a]);
    let elsewhere = Space::new(lab(), "many-elsewhere", &world.node.cgroup().join("elsewhere")).unwrap();
    let links = (0..many)
        .map(|i| format!("link add vethm{i} up type veth peer name m{i} netns {}\n", elsewhere.netns()));
    world.node.host().ip(&links.collect::<String>()).unwrap();
    // The agent has other things to do as well.
    let begun = Instant::now();
    service.set(&[&world.b]);
    let changed = begun.elapsed();
    assert!(changed < Duration::from_secs(2), "a change took {changed:?}");
    Case(&world, "pod", WAYS[0]).answered_by("b", service.ask(&world.client, WAYS[0]));
    let attached = settles(&world, LIMIT);
    // Their other ends end, and they with them.
    drop(elsewhere);
    vanish(&world, "vethm");
    let left = settles(&world, SOON);
    println!("{many} interfaces: served {attached:?} after they had come, left {left:?} after they had gone");
    Case(&world, "pod", WAYS[0]).answered_by("b", service.ask(&world.client, WAYS[0]));
}

#[test]
fn endpoints_behind_an_interface_that_nobody_serves_are_named() {
    let world = World::new("astray", Mode::All, &[]);
    let service = world.service("astray", &[&world.remote]);
    let said = |command: &str, key: &str| world.node.sluice_json(&[command]).unwrap()[key].to_string();
    assert_eq!(said("status", "unserved"), "null");
    let [v4, _] = world.remote.ips();
    world.lead_astray();
    assert_eq!(said("status", "unserved"), format!("[\"plain0 ({v4})\"]"));
    assert!(said("doctor", "findings").contains(&format!("plain0 ({v4})")));
    drop(service);
    wait_for(SOON, || said("status", "unserved") == "null").unwrap();
}

#[test]
fn an_uplink_that_flaps_is_served_before_its_route_is_back() {
    let world = World::new("flap", Mode::Host, &["--masquerade-all"]);
    let service = world.service("flap", &[&world.remote]);
    let host = world.node.host();
    // The uplink is known by its default route alone.
    let elsewhere = ["192.0.2.77", "2001:db8::77"].map(|addr| addr.parse().unwrap());
    world.node.write("node.json", &manifest::node(world.node.name(), &elsewhere)).unwrap();
    let connection = world.client.open(Socket::Tcp, Some(service.at(WAYS[0]))).unwrap();
    Case(&world, "before", WAYS[0]).answered_by("remote", connection.ask());
    let index = interfaces(host).into_iter().find(|(name, _)| name == "up0").unwrap().1;
    let link = || {
        let links = world.node.sluice_json(&["link"]).unwrap();
        let name = format!("outward_ingress-{index}");
        links.as_array().unwrap().iter().find(|link| link["name"] == name).map(|link| link["id"].clone())
    };
    let before = link();
    assert!(before.is_some());
    // The default route does not come back, but that to the pod does.
    host.ip("link set up0 down\nlink set up0 up\nroute add 10.244.2.0/24 via 172.18.0.1\n").unwrap();
    // Once this one is served, the agent has looked at what was before.
    host.ip("link add vethlater type veth peer name later\n").unwrap();
    wait_for(SOON, || served(&world).contains("vethlater")).unwrap();
    assert_eq!(link(), before);
    Case(&world, "after", WAYS[0]).answered_by("remote", connection.ask());
    host.ip("route add default via 172.18.0.1\nlink del vethlater\n").unwrap();
    wait_for(SOON, || !served(&world).contains("vethlater")).unwrap();
    assert_eq!(link(), before);
    // From now on it is one for as long as it has its route.
    host.ip("route del default via 172.18.0.1\n").unwrap();
    wait_for(SOON, || link().is_none()).unwrap();
}

/// Waits until `status` lists exactly these of `addresses` as held.
fn held(world: &World, addresses: &[IpAddr; 2], expected: &[IpAddr]) {
    let mut last = Vec::new();
    wait_for(SOON, || {
        let status = world.node.sluice_json(&["status"]).unwrap_or_default();
        let listed = status["held"].as_array().into_iter().flatten();
        last = listed.filter_map(|addr| addr.as_str()?.parse().ok()).collect();
        last.retain(|addr| addresses.contains(addr));
        last == expected
    })
    .unwrap_or_else(|error| panic!("{error}: {last:?}, should be {expected:?}\n{}", world.log()));
}

#[test]
fn addresses_of_services_that_interfaces_have_are_listed() {
    for world in worlds() {
        let service = world.service("held", &[&world.a]);
        let addresses = service.addresses;
        let [v4, v6] = addresses;
        let host = world.node.host();
        held(world, &addresses, &[]);
        host.ip(&format!("addr add {v4}/32 dev lo\naddr add {v6}/128 dev lo nodad\n")).unwrap();
        held(world, &addresses, &[v4, v6]);
        host.ip(&format!("addr del {v6}/128 dev lo\n")).unwrap();
        held(world, &addresses, &[v4]);
        host.ip(&format!("addr del {v4}/32 dev lo\n")).unwrap();
        held(world, &addresses, &[]);
        // Where kube-proxy in ipvs mode has run; held only by another interface besides.
        host.ip(&format!(
            "link add kube-ipvs0 type bridge\nlink set kube-ipvs0 up\naddr add {v4}/32 dev kube-ipvs0\n\
             addr add {v6}/128 dev lo nodad\n"
        ))
        .unwrap();
        held(world, &addresses, &[v6]);
        host.ip(&format!("link del kube-ipvs0\naddr del {v6}/128 dev lo\n")).unwrap();
        held(world, &addresses, &[]);
    }
}
