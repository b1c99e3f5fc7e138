//! Loading, attaching, swapping and taking away the real programs.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use aya::programs::SchedClassifier;
use aya::programs::tc::TcAttachType;
use lb_common::maps;
use lb_userspace::bpf::attach::Class;
use lb_userspace::bpf::cleanup::cleanup;
use lb_userspace::bpf::load::{Datapath, LoadError};
use lb_userspace::bpf::map::MapError;
use lb_userspace::bpf::object;
use lb_userspace::bpf::pin::PinDir;
use lb_userspace::bpf::probe;
use lb_userspace::bpf::size::Sizes;
use lb_userspace::bpf::sweep::Sweeper;
use serde_json::Value;

use super::support::{Netns, TestCgroup, TestPins, patiently, run};

/// Small tables: these tests run beside others.
pub(crate) const SMALL: Sizes = Sizes { flows: Some(1024), services: Some(64), backends: Some(64) };

pub(crate) fn load(pins: &PinDir, sizes: &Sizes) -> Result<Datapath, LoadError> {
    Datapath::load(pins, patiently(|| pins.lock())?, object::embedded()?, sizes)
}

fn show(what: &str) -> Value {
    serde_json::from_str(&run(&format!("bpftool -j {what}"))).unwrap()
}

/// Id, program id and cgroup of a pinned link.
pub(crate) fn link(pins: &PinDir, name: &str) -> (u64, u64, Value) {
    let info = show(&format!("link show pinned {}", pins.link(name).display()));
    (info["id"].as_u64().unwrap(), info["prog_id"].as_u64().unwrap(), info["cgroup_id"].clone())
}

/// Ids of the programs that a packet meets on `interface`, in that order.
fn chain(netns: &Netns, interface: &str, hook: TcAttachType) -> Vec<u64> {
    let (_, programs) = netns.within(|| SchedClassifier::query_tcx(interface, hook).unwrap());
    programs.iter().map(|program| u64::from(program.id())).collect()
}

fn map_ids(pins: &PinDir) -> Vec<u64> {
    maps::ALL
        .iter()
        .map(|spec| {
            show(&format!("map show pinned {}", pins.map(spec.name).display()))["id"].as_u64().unwrap()
        })
        .collect()
}

#[test]
fn this_machine_has_what_is_needed() {
    probe::kernel().unwrap();
    assert!(probe::cgroup_root(None).unwrap().join("cgroup.procs").exists());
    let [a, b] = [Netns::new(), Netns::new()].map(|netns| netns.within(|| probe::netns_cookie().unwrap()));
    assert_ne!(a, b);
    // Linux 6.16 and later have it; older ones may.
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    assert!(probe::csum_ipv6_flag().unwrap() || version < (6, 16), "{release}");
}

#[test]
fn maps_are_adopted_with_their_sizes() {
    let pins = TestPins::new();
    drop(load(&pins.0, &SMALL).unwrap());
    let before = map_ids(&pins.0);
    let wanted = Sizes { flows: Some(4096), ..SMALL };
    drop(load(&pins.0, &wanted).unwrap());
    assert_eq!(map_ids(&pins.0), before);
    let flows = show(&format!("map show pinned {}", pins.0.map(maps::FLOWS4).display()));
    assert_eq!(flows["max_entries"], 1024);
    let lru = show(&format!("map show pinned {}", pins.0.map(maps::FLOWS_LRU6).display()));
    assert_eq!(lru["max_entries"], 128);
    let slots = show(&format!("map show pinned {}", pins.0.map(maps::SLOTS4).display()));
    assert_eq!(slots["max_entries"], 128);
}

#[test]
fn a_foreign_map_in_the_way_is_refused_before_anything_is_loaded() {
    let pins = TestPins::new();
    drop(pins.0.lock().unwrap());
    let path = pins.0.map(maps::SERVICES_MAP);
    run(&format!("bpftool map create {} type array key 4 value 16 entries 4 name other", path.display()));
    match load(&pins.0, &SMALL) {
        Err(LoadError::Map(MapError::Shape { what, .. })) => assert_eq!(what, "value size"),
        other => panic!("{other:?}"),
    }
    assert!(!pins.0.map(maps::FLOWS4).exists());
}

#[test]
fn programs_are_swapped_inside_their_links() {
    let (pins, netns, cgroup) = (TestPins::new(), Netns::new(), TestCgroup::new());
    let (one, two) = (netns.veth("veth1"), netns.veth("veth2"));
    let names = [
        format!("pod_ingress-{one}"),
        format!("pod_egress-{two}"),
        "connect4".to_owned(),
        "sock_release".to_owned(),
    ];
    let attach = || {
        let datapath = load(&pins.0, &SMALL).unwrap();
        netns.within(|| {
            datapath.attach_interface(Class::Pods, one, "veth1").unwrap();
            datapath.attach_interface(Class::Pods, two, "veth2").unwrap();
        });
        datapath.attach_cgroup(&cgroup.0, false).unwrap();
        assert_eq!(datapath.linked_interfaces(Class::Pods).unwrap(), BTreeSet::from([one, two]));
        names.each_ref().map(|name| link(&pins.0, name))
    };
    let first = attach();
    let second = attach();
    for ((name, first), second) in names.iter().zip(first).zip(second) {
        assert_eq!(first.0, second.0, "{name}: the link stays");
        assert_ne!(first.1, second.1, "{name}: the program is another one");
    }

    let datapath = load(&pins.0, &SMALL).unwrap();
    datapath.detach_interface(Class::Pods, one).unwrap();
    datapath.detach_interface(Class::Pods, one).unwrap();
    assert_eq!(datapath.linked_interfaces(Class::Pods).unwrap(), BTreeSet::from([two]));
    assert_eq!(
        run(&format!("ip netns exec {} bpftool net show dev veth1", netns.0)).matches("pod_").count(),
        0
    );
}

#[test]
fn links_whose_target_is_gone_are_replaced() {
    let (pins, netns) = (TestPins::new(), Netns::new());
    let datapath = load(&pins.0, &SMALL).unwrap();
    let index = netns.veth("veth1");
    netns.within(|| datapath.attach_interface(Class::Pods, index, "veth1").unwrap());
    let ingress = format!("pod_ingress-{index}");
    let first = link(&pins.0, &ingress);
    run(&format!("ip -n {} link del veth1", netns.0));
    let error = netns.within(|| datapath.attach_interface(Class::Pods, index, "veth1").unwrap_err());
    assert!(error.is_gone(), "{error}");
    run(&format!("ip -n {} link add veth9 index {index} type veth peer name peer-veth9", netns.0));
    netns.within(|| datapath.attach_interface(Class::Pods, index, "veth9").unwrap());
    assert_ne!(link(&pins.0, &ingress).0, first.0);

    let (a, b) = (TestCgroup::new(), TestCgroup::new());
    datapath.attach_cgroup(&a.0, true).unwrap();
    let first = link(&pins.0, "connect6");
    let binds = || pins.0.links().unwrap().into_iter().filter(|name| name.starts_with("bind")).count();
    assert_eq!(binds(), 2);
    datapath.attach_cgroup(&b.0, false).unwrap();
    let second = link(&pins.0, "connect6");
    assert_ne!(first.0, second.0);
    assert_ne!(first.2, second.2);
    assert_eq!(binds(), 0, "there on demand only");
}

#[test]
fn a_pod_interface_has_our_programs_outermost() {
    let (pins, other, netns) = (TestPins::new(), TestPins::new(), Netns::new());
    let index = netns.veth("veth1");
    // Of another agent, standing for a CNI.
    let cni = load(&other.0, &SMALL).unwrap();
    let ours = load(&pins.0, &SMALL).unwrap();
    netns.within(|| {
        cni.attach_interface(Class::Pods, index, "veth1").unwrap();
        ours.attach_interface(Class::Pods, index, "veth1").unwrap();
    });
    let id = |pins: &PinDir, program: &str| link(pins, &format!("{program}-{index}")).1;
    let [ingress, egress] = [(TcAttachType::Ingress, "pod_ingress"), (TcAttachType::Egress, "pod_egress")]
        .map(|(hook, program)| (chain(&netns, "veth1", hook), id(&pins.0, program), id(&other.0, program)));
    assert_eq!(ingress.0, [ingress.1, ingress.2]);
    assert_eq!(egress.0, [egress.2, egress.1]);
}

#[test]
fn the_sweep_runs() {
    let pins = TestPins::new();
    let datapath = load(&pins.0, &SMALL).unwrap();
    let sweeper = Sweeper::new(&datapath, Duration::from_secs(1)).unwrap();
    assert_eq!(sweeper.sweep().unwrap(), 0.0);
}

#[test]
fn cleanup_leaves_nothing() {
    let (pins, netns, cgroup) = (TestPins::new(), Netns::new(), TestCgroup::new());
    let index = netns.veth("veth1");
    let datapath = load(&pins.0, &SMALL).unwrap();
    netns.within(|| datapath.attach_interface(Class::Pods, index, "veth1").unwrap());
    datapath.attach_cgroup(&cgroup.0, false).unwrap();
    let links: Vec<u64> = pins.0.links().unwrap().iter().map(|name| link(&pins.0, name).0).collect();
    assert_eq!(links.len(), 11);
    match cleanup(&pins.0) {
        Err(error) => assert!(error.to_string().contains(&format!("pid {}", std::process::id())), "{error}"),
        Ok(_) => panic!("an agent holds the lock"),
    }
    drop(datapath);
    assert!(patiently(|| cleanup(&pins.0)).unwrap());
    assert!(!pins.0.root().exists());
    let left = show("link show");
    let left: Vec<u64> = left.as_array().unwrap().iter().filter_map(|link| link["id"].as_u64()).collect();
    assert!(links.iter().all(|id| !left.contains(id)), "{links:?} {left:?}");
    assert!(!cleanup(&pins.0).unwrap(), "there is nothing any more");
}
