//! Any desires, in any order.

use std::num::NonZeroU32;
use std::time::Instant;

use lb_common::FrontendKind;
use lb_userspace::model::{Frontend, ServicePort};
use lb_userspace::plan::Capacity;
use lb_userspace::tables::{Fake, Tables as _};
use proptest::prelude::*;

use crate::support::{Desired, check, endpoint, key, replace, room, settle, started, update, views_of};

/// Room for what the strategies can desire and for what rests beside it, but not for more.
const TIGHT: Capacity = room(16, 130, 256);

/// Service port number `index`: its endpoints as bits, and by how many places it has moved along the frontends.
fn service_port(
    index: u8,
    serving: u8,
    cluster: u8,
    local: u8,
    moved: u8,
    v6: bool,
) -> (String, ServicePort) {
    let at = (index + moved) % 8;
    let prefix = if v6 { "[fd00::" } else { "10.0.0." };
    let end = if v6 { "]" } else { "" };
    let frontend = format!("{prefix}{}{end}:{}", at / 2 + 1, 80 + at % 2);
    let list = |bits: u8| {
        let endpoint = |bit: u8| {
            endpoint(&if v6 { format!("[fd01::{bit}]:8080") } else { format!("10.1.0.{bit}:8080") })
        };
        (0..6).filter(|bit| bits >> bit & 1 == 1).map(endpoint).collect::<Vec<_>>()
    };
    let addr = endpoint(&frontend);
    let service = ServicePort {
        port: addr.port(),
        frontends: vec![Frontend { addr: addr.ip(), port: addr.port(), kind: FrontendKind::ClusterIp }],
        cluster: list(serving & cluster),
        local: list(serving & local),
        serving: list(serving),
        internal_local: moved % 2 == 1,
        affinity: NonZeroU32::new(u32::from(moved / 2)),
        new_flow_rate: NonZeroU32::new(u32::from(moved % 3)),
        external: None,
    };
    (frontend, service)
}

fn desires() -> impl Strategy<Value = Desired> {
    let services = prop::collection::btree_map((0_u8..6, any::<bool>()), any::<(u8, u8, u8)>(), 0..10);
    (services, 0_u8..4).prop_map(|(services, moved)| {
        let entry = |((index, v6), (serving, cluster, local))| {
            let (frontend, service) = service_port(index, serving, cluster, local, moved, v6);
            (key(&format!("s{index}"), &frontend), service)
        };
        services.into_iter().map(entry).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn b9_the_tables_are_as_desired_and_nothing_leaks(states in prop::collection::vec((desires(), any::<bool>()), 1..8)) {
        let mut now = Instant::now();
        let mut reconciler = started(Fake::new(TIGHT), &Desired::new());
        let mut last = Desired::new();
        for (desired, restart) in states {
            if restart {
                reconciler = started(reconciler.into_tables(), &desired);
            } else {
                reconciler.desire(update(&last, &desired));
            }
            settle(&mut reconciler, &mut now);
            prop_assert_eq!(reconciler.report().problems, vec![]);
            prop_assert_eq!(check(&reconciler.tables().read().unwrap()), views_of(&desired));
            reconciler.verify();
            prop_assert_eq!(settle(&mut reconciler, &mut now).operations, 0);
            last = desired;
        }
        reconciler.desire(replace(&Desired::new()));
        settle(&mut reconciler, &mut now);
        prop_assert!(reconciler.shadow().is_untouched());
    }
}
