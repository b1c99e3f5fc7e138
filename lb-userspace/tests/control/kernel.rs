//! The scenarios over real maps. Needs root.

use std::fs;
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use lb_common::maps::{self, MapKind, Sizing};
use lb_userspace::bpf::pin::PinDir;
use lb_userspace::plan::Capacity;
use lb_userspace::reconcile::Reconciler;
use lb_userspace::tables::{Fake, Kernel, Tables as _};

use crate::scenarios::{all, play, scale_1_3_0_1};
use crate::support::{Desired, NODE, check, key, replace, room, service, settle, started, views_of};

/// What the maps below have room for.
const SMALL: Capacity = room(16, 64, 128);

/// A pin directory with small maps, removed with everything in it.
struct Pins(PinDir);

impl Pins {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let pins = Self(PinDir::new(format!("/sys/fs/bpf/sluice-test-tables-{}-{number}", process::id())));
        drop(pins.0.lock().unwrap());
        for map in maps::ALL {
            let entries = match map.sizing {
                Sizing::Services => SMALL.services,
                Sizing::Backends if map.name.starts_with("slots") => SMALL.slots[0],
                Sizing::Backends => SMALL.backends,
                Sizing::Fixed | Sizing::Flows => continue,
            };
            let kind = match map.kind {
                MapKind::Hash => "hash",
                MapKind::LpmTrie => "lpm_trie",
                _ => "array",
            };
            let status = Command::new("bpftool")
                .args(["map", "create", pins.0.map(map.name).to_str().unwrap()])
                .args(["type", kind, "name", map.name, "key", &map.key_size.to_string()])
                .args(["value", &map.value_size.to_string(), "entries", &entries.to_string()])
                .args(["flags", &map.flags.to_string()])
                .status();
            assert!(status.unwrap().success(), "bpftool map create {}", map.name);
        }
        pins
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0.root());
    }
}

#[test]
fn b13_b51_b98_scenarios_over_real_maps() {
    let pins = Pins::new();
    for scenario in all() {
        play(Kernel::open(&pins.0).unwrap(), &scenario);
    }
}

#[test]
fn kernel_and_fake_hold_the_same() {
    let pins = Pins::new();
    let mut kernel = started(Kernel::open(&pins.0).unwrap(), &Desired::new());
    let mut fake = started(Fake::new(SMALL), &Desired::new());
    for desired in all().concat() {
        kernel.desire(replace(&desired));
        fake.desire(replace(&desired));
        assert_eq!(kernel.step(Instant::now()), fake.step(Instant::now()));
        let [mut one, mut other] = [kernel.tables().read().unwrap(), fake.tables().read().unwrap()];
        for snapshot in [&mut one, &mut other] {
            snapshot.services.sort_by_key(|entry| entry.id);
            snapshot.frontends.sort_by_key(|(frontend, _)| *frontend);
            snapshot.addresses.sort_by_key(|(addr, _)| *addr);
            snapshot.ranges.sort_unstable();
        }
        assert_eq!(one, other);
    }
}

#[test]
fn b9_a_restart_over_real_maps_changes_nothing() {
    let pins = Pins::new();
    let desired = scale_1_3_0_1().remove(1);
    drop(started(Kernel::open(&pins.0).unwrap(), &desired));
    let before = Instant::now();
    let mut next = Reconciler::adopt(Kernel::open(&pins.0).unwrap(), NODE).unwrap();
    assert!(before.elapsed() < Duration::from_secs(3), "the wait for a grace period");
    next.desire(replace(&desired));
    assert_eq!(settle(&mut next, &mut Instant::now()).operations, 0);
    assert_eq!(check(&next.tables().read().unwrap()), views_of(&desired));
}

#[test]
fn a_map_that_is_full_is_told_from_other_failures() {
    let pins = Pins::new();
    let names: Vec<_> = (0..20_u8).map(|i| format!("10.0.0.{i}:80")).collect();
    let desired: Desired = names.iter().map(|at| (key(&format!("s{at}"), at), service(at, &[]))).collect();
    let kernel = started(Kernel::open(&pins.0).unwrap(), &desired);
    assert_eq!(kernel.report().problems.len(), 4);
    assert_eq!(check(&kernel.tables().read().unwrap()).0.len(), 16);
}
