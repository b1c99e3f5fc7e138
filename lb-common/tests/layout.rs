//! Golden layout: offsets of every field that both sides of the kernel boundary read. A change here is a change of
//! [`lb_common::SCHEMA`].

use std::mem::offset_of;

use lb_common::*;

macro_rules! offsets {
    ($ty:ty: $($field:ident @ $offset:literal),+ $(,)?) => {
        $(assert_eq!(offset_of!($ty, $field), $offset, concat!(stringify!($ty), ".", stringify!($field)));)+
    };
}

#[test]
fn fields_stand_where_schema_6_has_them() {
    assert_eq!(SCHEMA, 6, "a new schema number needs new golden offsets");
    offsets!(Tuple<Addr4>: src @ 0, dst @ 4, sport @ 8, dport @ 10);
    offsets!(Tuple<Addr6>: src @ 0, dst @ 16, sport @ 32, dport @ 34);
    offsets!(FlowKey<Addr4>: tuple @ 0, proto @ 12);
    offsets!(FlowKey<Addr6>: tuple @ 0, proto @ 36);
    offsets!(FlowValue<Addr4>: word @ 0, seen @ 8, packets @ 16, bytes @ 24, tuple @ 32, service @ 44, backend @ 48,
        generation @ 52, point @ 56, kind @ 57, masquerade @ 58, other_point @ 59, check @ 60);
    offsets!(FlowValue<Addr6>: word @ 0, seen @ 8, packets @ 16, bytes @ 24, tuple @ 32, service @ 68, backend @ 72,
        generation @ 76, point @ 80, kind @ 81, masquerade @ 82, other_point @ 83, check @ 84);
    offsets!(FrontendKey<Addr4>: addr @ 0, port @ 4, proto @ 6);
    offsets!(FrontendKey<Addr6>: addr @ 0, port @ 16, proto @ 18);
    offsets!(FrontendValue: service @ 0, kind @ 4);
    offsets!(SourceRangeKey<Addr4>: bits @ 0, range @ 4);
    offsets!(SourceRangeKey<Addr6>: bits @ 0, range @ 4);
    offsets!(ClientOf<Addr4>: service @ 0, addr @ 4);
    offsets!(ClientOf<Addr6>: service @ 0, addr @ 4);
    offsets!(ServiceRecord: cluster @ 0, local @ 8, flags @ 16, cursor @ 24, spent @ 32);
    offsets!(Slot<Addr4>: addr @ 0, port @ 4, backend @ 8, generation @ 12);
    offsets!(Slot<Addr6>: addr @ 0, port @ 16, backend @ 20, generation @ 24);
    offsets!(BackendRecord: word @ 0, service @ 8, family @ 12, port @ 14, addr @ 16);
    offsets!(ServiceMeta: namespace @ 0, name @ 64, port_name @ 128, port @ 192, proto @ 194, family @ 195);
    offsets!(ServiceStats: connections @ 0, packets_in @ 8, bytes_in @ 16, packets_out @ 24, bytes_out @ 32);
    offsets!(BackendStats: traffic @ 0, port_cursor @ 40);
    offsets!(SockUdpKey<Addr4>: cookie @ 0, addr @ 8, port @ 12, role @ 14);
    offsets!(SockUdpKey<Addr6>: cookie @ 0, addr @ 8, port @ 24, role @ 26);
    offsets!(SockUdpValue<Addr4>: peer @ 0, next @ 8, backend @ 16, generation @ 20);
    offsets!(SockUdpValue<Addr6>: peer @ 0, next @ 20, backend @ 40, generation @ 44);
    offsets!(SockStorage: peer @ 0, backend @ 20, udp4 @ 40, udp6 @ 48);
    offsets!(Config: netns_cookie @ 0, flags @ 8, reject_rate @ 12, node4 @ 16, node6 @ 20, snat_ports @ 36, lifetimes @ 44,
        event_rate @ 88, service_ranges4 @ 92, service_ranges6 @ 156, local4 @ 316, local6 @ 324,
        embryonic @ 344, patience @ 348, new_flow_rate @ 352, tick @ 356);
    offsets!(FragmentKey: src @ 0, dst @ 16, id @ 32, proto @ 36, point @ 37);
    offsets!(FragmentValue: sport @ 0, dport @ 2, proto @ 4, seen @ 8, check @ 12);
    offsets!(AffinityKey: client @ 0, service @ 16);
    offsets!(AddressValue: kind @ 0, flags @ 1);
    offsets!(InterfaceValue: flags @ 0, mac @ 4);
    offsets!(StateRecord: lru_used @ 0, full @ 16, swept @ 32, clock @ 48, begun @ 64, settled @ 80, events @ 96);
    offsets!(CpuRecord: pairs @ 0, rejects @ 8, events @ 16, flows @ 24, suppressed @ 32, sent_on @ 40,
        uplink @ 48, looked @ 52, told @ 56);
    offsets!(WayRecord: flow @ 0, interface @ 8, asked @ 12, link @ 16, mtu @ 28, frames @ 30);
    offsets!(EventRecord: sequence @ 0, time @ 8, cookie @ 16, suppressed @ 24, ifindex @ 28, length @ 32, party @ 36,
        src @ 40, dst @ 56, comm @ 72, sport @ 88, dport @ 90, reason @ 92, point @ 93, proto @ 94, flags @ 95);
    offsets!(SweepReport: scanned @ 0, pairs @ 8, expired @ 16, orphans @ 24, began @ 32, lru_left @ 40,
        embryonic @ 48, moved @ 56);
}

#[test]
fn maps_have_the_sizes_and_names_of_schema_6() {
    let golden = [
        ("flows4", 16, 64),
        ("flows6", 40, 88),
        ("flows_lru4", 16, 64),
        ("flows_lru6", 40, 88),
        ("addresses4", 4, 4),
        ("addresses6", 16, 4),
        ("marks", 4, 8),
        ("frontends4", 8, 8),
        ("frontends6", 20, 8),
        ("source_ranges4", 12, 4),
        ("source_ranges6", 24, 4),
        ("services", 4, 40),
        ("service_meta", 4, 200),
        ("service_stats", 4, 40),
        ("slots4", 4, 16),
        ("slots6", 4, 28),
        ("backends", 4, 32),
        ("backend_stats", 4, 48),
        ("affinity", 20, 8),
        ("fragments", 40, 16),
        ("interfaces", 4, 12),
        ("reasons", 4, 8),
        ("events", 4, 96),
        ("config", 4, 360),
        ("state", 4, 104),
        ("cpu", 4, 72),
        ("ways", 4, 32),
        ("scratch4", 4, 264),
        ("scratch6", 4, 408),
        ("sweep", 4, 64),
        ("sock_udp4", 16, 24),
        ("sock_udp6", 28, 48),
        ("socks", 4, 68),
    ];
    let maps: Vec<_> = maps::ALL.iter().map(|map| (map.name, map.key_size, map.value_size)).collect();
    assert_eq!(maps, golden);
    assert!(maps::ALL.iter().all(|map| map.name.len() <= 15), "the kernel cuts longer names");
}

#[test]
fn reasons_have_distinct_names() {
    let mut names: Vec<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Reason::ALL.len());
}

#[test]
fn words_hold_what_was_put_in() {
    let word = FlowWord::new(513, 0x12_3456_789a, FlowState::SYN).with(FlowState::DEAD);
    assert_eq!(word.id(), (513 << 40) | 0x12_3456_789a);
    assert!(word.state().has(FlowState::SYN | FlowState::DEAD));
    assert!(!word.without(FlowState::DEAD).state().has(FlowState::DEAD));
    let span = Span::new(7, 300);
    assert_eq!((span.offset(), span.len(), span.is_empty()), (7, 300, false));
    let backend = BackendWord::new(9, backend_flags::SERVING | backend_flags::LOCAL);
    assert_eq!((backend.generation(), backend.serving()), (9, true));
    assert!(backend.has(backend_flags::LOCAL) && !backend.has(backend_flags::CLUSTER));
    let flags = service_flags::with_affinity(service_flags::INTERNAL_LOCAL, 10_800);
    assert_eq!((flags & service_flags::INTERNAL_LOCAL, service_flags::affinity(flags)), (1, 10_800));
    assert_eq!(service_flags::new_flow_rate(flags), 0);
    for rate in [1, service_flags::MAX_NEW_FLOW_RATE] {
        let limited = service_flags::with_new_flow_rate(flags, rate);
        assert_eq!((service_flags::new_flow_rate(limited), service_flags::affinity(limited)), (rate, 10_800));
        assert_eq!(limited & 0xff, flags & 0xff);
    }
}

#[test]
fn b64_a_client_is_remembered_for_the_timeout() {
    const SECOND: u64 = 1_000_000_000;
    const NEVER: u32 = 86_400;
    let began = 40 * 86_400 * SECOND;
    let word = AffinityWord::new(0xab_cdef, 0x0001_4005, began);
    assert_eq!(word.backend(), 0xab_cdef);
    assert!(word.is_of(0x0001_4005) && !word.is_of(0x0001_4004));
    for timeout in [1, 2, 10_800, 86_400] {
        let end = began + u64::from(timeout) * SECOND;
        assert!(!word.is_over(timeout, began) && !word.is_over(timeout, end), "{timeout}");
        assert!(word.is_over(timeout, end + SECOND / 5), "{timeout}");
    }
    assert_eq!(word.idle(began), 0);
    assert!(!word.is_over(1, began - 30 * SECOND), "another CPU has just refreshed it");
    assert_eq!(word.at(began + 5 * SECOND).idle(began + 5 * SECOND), 0);
    // The clock of the word comes round after 52 days.
    let later = began + 51 * 86_400 * SECOND;
    assert!(word.is_over(NEVER, later) && !word.at(later).is_over(NEVER, later));
}

#[test]
fn mapped_addresses_go_there_and_back() {
    let v4 = Addr4([192, 0, 2, 1]);
    assert_eq!(Addr4::from_mapped(&v4.to_mapped()), Some(v4));
    assert_eq!(Addr6::from_mapped(&v4.to_mapped()), None);
    let v6 = Addr6([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(Addr6::from_mapped(&v6.to_mapped()), Some(v6));
    assert_eq!(Addr4::from_mapped(&v6), None);
}

#[test]
fn prefixes_hold_the_addresses_that_begin_with_them() {
    let addr6 = |head: [u8; 4], tail: u8| {
        let mut addr = [0; 16];
        addr[..4].copy_from_slice(&head);
        addr[15] = tail;
        Addr6(addr)
    };
    let v4 = |bits| Prefix { addr: Addr4([10, 244, 128, 0]), bits, pad: [0; 3] };
    for (bits, addr, inside) in [
        (17, [10, 244, 255, 1], true),
        (17, [10, 244, 127, 1], false),
        (32, [10, 244, 128, 0], true),
        (32, [10, 244, 128, 1], false),
        (1, [127, 0, 0, 1], true),
        (1, [128, 0, 0, 1], false),
        (0, [10, 244, 128, 0], false),
    ] {
        assert_eq!(v4(bits).contains(&Addr4(addr)), inside, "{addr:?} in /{bits}");
    }
    let v6 = |bits| Prefix { addr: addr6([0xfd, 0, 1, 0], 0), bits, pad: [0; 3] };
    for (bits, addr, inside) in [
        (24, addr6([0xfd, 0, 1, 9], 9), true),
        (32, addr6([0xfd, 0, 1, 0], 9), true),
        (32, addr6([0xfd, 0, 1, 9], 9), false),
        (127, addr6([0xfd, 0, 1, 0], 1), true),
        (127, addr6([0xfd, 0, 1, 0], 2), false),
        (128, addr6([0xfd, 0, 1, 0], 1), false),
    ] {
        assert_eq!(v6(bits).contains(&addr), inside, "{addr:?} in /{bits}");
    }
    let config = Config { local4: v4(17), ..Config::DEFAULT };
    assert_eq!(*config.local_range::<Addr4>(), v4(17));
    assert!(config.local_range::<Addr6>().is_empty());
}
