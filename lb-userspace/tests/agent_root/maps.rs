//! Pins and typed maps.

use lb_common::maps::{self, MMAPABLE, NO_PREALLOC};
use lb_common::{
    Addr4, Addr6, BackendStats, Endpoint, FrontendKey, FrontendValue, Port, ServiceRecord, ServiceStats, Slot,
};
use lb_userspace::bpf::map::{Array, Hash, Insert, MapError, PerCpuArray};
use lb_userspace::bpf::pin::{Holder, PinDir, PinError};

use super::support::{TestPins, patiently, run};

fn create(dir: &PinDir, name: &str, shape: &str) {
    run(&format!("bpftool map create {} {shape} name {name}", dir.map(name).display()));
}

fn frontend(i: u32) -> FrontendKey<Addr4> {
    FrontendKey::new(Addr4(i.to_be_bytes()), Port::new(80), 6)
}

fn value(service: u32) -> FrontendValue {
    FrontendValue { service, ..FrontendValue::default() }
}

#[test]
fn a_second_agent_is_refused_by_the_pid_of_the_first() {
    let pins = TestPins::new();
    let lock = pins.0.lock().unwrap();
    let first = Holder { pid: Some(std::process::id()) };
    match pins.0.lock() {
        Err(PinError::Held { holder, .. }) => assert_eq!(holder, first),
        other => panic!("{other:?}"),
    }
    assert_eq!(pins.0.holder(), Some(first));
    drop(lock);
    patiently(|| pins.0.lock()).unwrap();
}

#[test]
fn a_hash_is_read_and_written_in_full() {
    let pins = TestPins::new();
    let _lock = pins.0.lock().unwrap();
    assert!(matches!(
        Hash::<FrontendKey<Addr4>, FrontendValue>::open(&pins.0, maps::FRONTENDS4),
        Err(MapError::NotPinned { .. })
    ));
    create(&pins.0, "frontends4", &format!("type hash key 8 value 8 entries 10000 flags {NO_PREALLOC}"));
    let hash = Hash::open(&pins.0, maps::FRONTENDS4).unwrap();
    assert_eq!(hash.capacity(), 10_000);
    assert_eq!(hash.entries().count(), 0);
    for i in 0..10_000 {
        hash.insert(&frontend(i), &value(i), Insert::New).unwrap();
    }
    assert!(matches!(hash.insert(&frontend(1), &value(0), Insert::New), Err(MapError::Exists { .. })));
    hash.insert(&frontend(1), &value(77), Insert::Any).unwrap();
    assert!(matches!(hash.insert(&frontend(10_000), &value(0), Insert::Any), Err(MapError::Full { .. })));
    assert_eq!(hash.get(&frontend(1)).unwrap(), Some(value(77)));
    assert_eq!(hash.get(&frontend(10_000)).unwrap(), None);
    let mut all: Vec<_> = hash.entries().map(|entry| entry.unwrap().0).collect();
    all.sort();
    assert_eq!(all, (0..10_000).map(frontend).collect::<Vec<_>>());
    assert!(hash.delete(&frontend(1)).unwrap());
    assert!(!hash.delete(&frontend(1)).unwrap());
}

#[test]
fn arrays_share_memory_with_the_kernel() {
    let pins = TestPins::new();
    let _lock = pins.0.lock().unwrap();
    create(&pins.0, "services", &format!("type array key 4 value 40 entries 100 flags {MMAPABLE}"));
    let services = Array::<ServiceRecord>::open(&pins.0, maps::SERVICES_MAP).unwrap();
    let record = ServiceRecord { cluster: 1, local: 2, flags: 3, cursor: 4, spent: 5 };
    services.set(99, &record).unwrap();
    services.store(99, 8, 0x0807_0605_0403_0201).unwrap();
    assert_eq!(services.load(99, 8).unwrap(), 0x0807_0605_0403_0201);
    assert_eq!(services.get(99).unwrap().cursor, 4);
    assert_eq!(services.get(100).unwrap(), ServiceRecord::default());
    assert_eq!(services.load(99, 40).unwrap(), 0);
    assert!(matches!(services.set(100, &record), Err(MapError::Index { index: 100, .. })));
    let seen = run(&format!("bpftool map lookup pinned {} key 99 0 0 0", pins.0.map("services").display()));
    assert!(seen.contains("01 02 03 04 05 06 07 08"), "{seen}");

    // 28 bytes in a record, 32 from one to the next.
    create(&pins.0, "slots6", &format!("type array key 4 value 28 entries 300 flags {MMAPABLE}"));
    let slots = Array::<Slot<Addr6>>::open(&pins.0, maps::SLOTS6).unwrap();
    let slot = |i: u32| Slot {
        addr: Addr6([7; 16]),
        port: Endpoint::new(Addr6::default(), Port::new(80)).port,
        pad: [0; 2],
        backend: i,
        generation: !i,
    };
    for i in 0..slots.len() {
        slots.set(i, &slot(i)).unwrap();
    }
    let seen = run(&format!("bpftool map lookup pinned {} key 3 1 0 0", pins.0.map("slots6").display()));
    assert!(seen.contains("03 01 00 00  fc fe ff ff"), "{seen}");
    assert_eq!(slots.get(259).unwrap(), slot(259));
}

#[test]
fn a_large_array_is_seen_through_windows_wherever_its_records_are() {
    let pins = TestPins::new();
    let _lock = pins.0.lock().unwrap();
    const COUNT: u32 = 100_000;
    // 48 bytes, of which no power of two is a multiple: records lie across the ends of windows.
    create(&pins.0, "backend_stats", &format!("type array key 4 value 48 entries {COUNT} flags {MMAPABLE}"));
    let stats = Array::<BackendStats>::open(&pins.0, maps::BACKEND_STATS).unwrap();
    let record = |i: u32| BackendStats {
        traffic: ServiceStats { connections: i.into(), bytes_out: (!i).into(), ..ServiceStats::default() },
        port_cursor: u64::from(i) << 32,
    };
    // From window to window, further than so many are open.
    let order = || (0..COUNT).map(|i| i.wrapping_mul(7_919) % COUNT);
    for i in order() {
        stats.set(i, &record(i)).unwrap();
    }
    for i in order() {
        assert_eq!(stats.get(i).unwrap(), record(i));
        assert_eq!(stats.load(i, 40).unwrap(), record(i).port_cursor);
    }
    // 1365 * 48 is 16 bytes before the end of the first window.
    let seen =
        run(&format!("bpftool map lookup pinned {} key 85 5 0 0", pins.0.map("backend_stats").display()));
    assert!(seen.contains("55 05 00 00") && seen.contains("aa fa ff ff"), "{seen}");
}

#[test]
fn each_cpu_has_a_record() {
    let pins = TestPins::new();
    let _lock = pins.0.lock().unwrap();
    let reasons = lb_common::Reason::ALL.len();
    create(&pins.0, "reasons", &format!("type percpu_array key 4 value 8 entries {reasons}"));
    let counts = PerCpuArray::<u64>::open(&pins.0, maps::REASONS).unwrap();
    let cpus = aya::util::nr_cpus().unwrap();
    assert_eq!(counts.get(0).unwrap(), vec![0; cpus]);
    assert!(counts.get(counts.len()).is_err());
}

#[test]
fn a_map_of_another_shape_is_not_adopted() {
    let pins = TestPins::new();
    let _lock = pins.0.lock().unwrap();
    for (shape, expected) in [
        ("type lru_hash key 8 value 8 entries 16", "kind 9 where this build has 1"),
        ("type hash key 12 value 8 entries 16 flags 1", "key size 12 where this build has 8"),
        ("type hash key 8 value 4 entries 16 flags 1", "value size 4 where this build has 8"),
        ("type hash key 8 value 8 entries 16", "flags 0 where this build has 1"),
    ] {
        create(&pins.0, "frontends4", shape);
        let error = Hash::<FrontendKey<Addr4>, FrontendValue>::open(&pins.0, maps::FRONTENDS4).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(expected) && text.contains("sluice cleanup"), "{text}");
        std::fs::remove_file(pins.0.map("frontends4")).unwrap();
    }
}
