//! Pairs are made, taken over and removed.

use lb_ebpf::testing::world::Sizes;

use crate::story::{ACK, ANY, ROOM, RST, SYN, Story, TCP, UDP, Work, agree, explore};

#[test]
fn two_cpus_open_one_flow() {
    const STORY: Story = Story {
        scene: TCP,
        sizes: ROOM,
        embryonic: ANY,
        before: &[],
        at_once: &[&[Work::Send(SYN, 1, 0)], &[Work::Send(SYN, 1, 0)], &[Work::Sweep]],
    };
    explore(&STORY, |seen, _| {
        agree([&seen[0][0], &seen[1][0]]).expect("dropped on every CPU");
    });
}

#[test]
fn two_flows_contend_for_one_reverse_entry() {
    const STORY: Story = Story {
        scene: TCP,
        sizes: ROOM,
        embryonic: ANY,
        before: &[],
        at_once: &[
            &[Work::Send(SYN, 1, 0), Work::Send(SYN, 1, 1)],
            &[Work::Send(SYN, 1, 1), Work::Send(SYN, 1, 0)],
        ],
    };
    explore(&STORY, |seen, _| {
        let first = agree([&seen[0][0], &seen[1][1]]).expect("dropped on every CPU");
        let second = agree([&seen[0][1], &seen[1][0]]).expect("dropped on every CPU");
        assert_ne!(first, second, "two flows share a reverse entry");
    });
}

#[test]
fn an_expired_flow_is_taken_over_beside_the_sweep() {
    const STORY: Story = Story {
        scene: UDP,
        sizes: ROOM,
        embryonic: ANY,
        before: &[Work::Send(0, 1, 0), Work::Idle(40)],
        at_once: &[&[Work::Send(0, 1, 0)], &[Work::Send(0, 1, 0)], &[Work::Sweep]],
    };
    // A datagram that met the old flow before it went may still go where that one led.
    explore(&STORY, |_, _| {});
}

#[test]
fn two_cpus_reopen_one_closed_flow() {
    const STORY: Story = Story {
        scene: TCP,
        sizes: ROOM,
        embryonic: ANY,
        before: &[Work::Send(SYN, 1, 0), Work::Send(RST, 1, 0)],
        at_once: &[&[Work::Send(SYN, 1, 0)], &[Work::Send(SYN, 1, 0)], &[Work::Sweep]],
    };
    explore(&STORY, |seen, _| {
        agree([&seen[0][0], &seen[1][0]]);
    });
}

#[test]
fn a_closed_flow_is_reopened_while_another_wants_its_reverse_entry() {
    const STORY: Story = Story {
        scene: TCP,
        sizes: ROOM,
        embryonic: ANY,
        before: &[Work::Send(SYN, 1, 0), Work::Send(RST, 1, 0), Work::Idle(11)],
        at_once: &[&[Work::Send(SYN, 1, 0)], &[Work::Send(SYN, 1, 1), Work::Send(SYN, 1, 1)], &[Work::Sweep]],
    };
    explore(&STORY, |_, _| {});
}

#[test]
fn flows_open_where_the_table_is_nearly_full() {
    const STORY: Story = Story {
        scene: TCP,
        sizes: Sizes { main: 3, lru: 8 },
        embryonic: ANY,
        before: &[],
        at_once: &[&[Work::Send(SYN, 1, 0)], &[Work::Send(SYN, 1, 0)], &[Work::Send(SYN, 2, 1)]],
    };
    explore(&STORY, |seen, _| {
        let tuples = [seen[0][0], seen[1][0]].into_iter().flatten();
        let tuples: std::collections::BTreeSet<_> = tuples.collect();
        assert!(tuples.len() < 2, "{tuples:?}");
    });
}

#[test]
fn a_segment_without_flow_meets_a_syn() {
    const STORY: Story = Story {
        scene: TCP,
        sizes: ROOM,
        embryonic: ANY,
        before: &[],
        at_once: &[&[Work::Send(ACK, 1, 0)], &[Work::Send(SYN, 1, 0)], &[Work::Send(ACK, 1, 1)]],
    };
    explore(&STORY, |_, _| {});
}

#[test]
fn elements_are_recycled_under_readers() {
    const STORY: Story = Story {
        scene: TCP,
        sizes: Sizes { main: 4, lru: 8 },
        embryonic: ANY,
        before: &[Work::Send(SYN, 1, 0), Work::Send(RST, 1, 0), Work::Send(SYN, 2, 0), Work::Idle(11)],
        at_once: &[
            &[Work::Sweep, Work::Send(SYN, 3, 0)],
            &[Work::Send(ACK, 2, 0), Work::Send(ACK, 2, 0)],
            &[Work::Send(SYN, 1, 0)],
        ],
    };
    explore(&STORY, |seen, _| {
        agree(&seen[1]).expect("dropped on every CPU");
    });
}

#[test]
fn a_stream_keeps_its_flow_beside_the_sweep() {
    const STORY: Story = Story {
        scene: UDP,
        sizes: ROOM,
        embryonic: ANY,
        before: &[
            Work::Send(0, 1, 0),
            Work::Reply(0, 1),
            Work::Idle(100),
            Work::Reply(0, 1),
            Work::Idle(100),
        ],
        at_once: &[&[Work::Sweep], &[Work::Reply(0, 1), Work::Reply(0, 1)], &[Work::Send(0, 1, 0)]],
    };
    explore(&STORY, |seen, _| {
        let there = (UDP.pod(7, 1), UDP.endpoint(1));
        let back = Some((UDP.vip(10, 80), UDP.pod(7, 1)));
        assert_eq!(seen[1], [back, back]);
        assert!(seen[2][0].is_none_or(|tuple| tuple == there));
    });
}
