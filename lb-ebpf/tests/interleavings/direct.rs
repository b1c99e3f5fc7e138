//! Connections past all Services, from ports that a flow through one has used.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lb_common::{FlowState, FlowWord};
use lb_ebpf::env::FlowTable;
use lb_ebpf::testing::world::World;

use crate::story::{ACK, ANY, FIN, ROOM, RST, SYN, SYN_ACK, Seen, Story, TCP, Work, explore, interrupted};

/// The client's packet from port 1 to the first endpoint, as it is.
fn there() -> Seen {
    Some((TCP.pod(7, 1), TCP.endpoint(1)))
}

/// The endpoint's answer to it, as it is.
fn back() -> Seen {
    Some((TCP.endpoint(1), TCP.pod(7, 1)))
}

/// Flow 1 has been used, and both sides have closed it.
const ENDED: &[Work] = &[
    Work::Send(SYN, 1, 0),
    Work::Reply(SYN_ACK, 1),
    Work::Send(ACK, 1, 0),
    Work::Send(FIN, 1, 0),
    Work::Reply(FIN, 1),
    Work::Send(ACK, 1, 0),
];

/// A connection is opened, and answered.
const OPENED: &[Work] = &[Work::Direct(SYN, 1), Work::Reply(SYN_ACK, 1)];

#[test]
fn an_ended_flow_makes_way_beside_the_sweep_and_other_flows() {
    const STORY: Story = Story {
        scene: TCP,
        sizes: ROOM,
        embryonic: ANY,
        before: ENDED,
        at_once: &[OPENED, &[Work::Sweep], &[Work::Send(SYN, 2, 0), Work::Reply(SYN_ACK, 2)]],
    };
    explore(&STORY, |seen, world| {
        assert_eq!(seen[0], [there(), back()]);
        assert_eq!(world.flows4(FlowTable::Main).len(), 2);
    });
}

#[test]
fn an_ended_flow_of_the_lru_table_makes_way() {
    const STORY: Story = Story {
        scene: TCP,
        sizes: ROOM,
        embryonic: 0,
        before: &[Work::Send(SYN, 1, 0), Work::Reply(FIN, 1), Work::Send(FIN, 1, 0)],
        at_once: &[OPENED, &[Work::Send(SYN, 2, 0)]],
    };
    explore(&STORY, |seen, _| assert_eq!(seen[0], [there(), back()]));
}

#[test]
fn an_ended_flow_makes_way_while_it_is_reopened_and_its_reverse_entry_is_wanted() {
    const STORY: Story = Story {
        scene: TCP,
        sizes: ROOM,
        embryonic: ANY,
        // Long enough for another flow to take the reverse entry over.
        before: &[Work::Send(SYN, 1, 0), Work::Reply(FIN, 1), Work::Send(FIN, 1, 0), Work::Idle(4)],
        at_once: &[
            &[Work::Direct(SYN, 1), Work::Direct(SYN, 1)],
            &[Work::Send(SYN, 1, 0)],
            &[Work::Send(SYN, 1, 1)],
        ],
    };
    explore(&STORY, |seen, _| {
        assert_eq!(seen[0], [there(), there()]);
        let [one, other]: [Option<(SocketAddr, SocketAddr)>; 2] = [seen[1][0], seen[2][0]];
        assert!(one.is_none() || one != other, "two flows share a reverse entry: {one:?}");
    });
}

/// A RST of the backend was forged: its data takes it back, while the client opens a connection past the Service.
#[test]
fn a_flow_that_is_found_to_live_in_the_last_moment_does_not_make_way() {
    const STORY: Story = Story {
        scene: TCP,
        sizes: ROOM,
        embryonic: ANY,
        before: &[Work::Send(SYN, 1, 0), Work::Reply(SYN_ACK, 1), Work::Send(ACK, 1, 0), Work::Reply(RST, 1)],
        at_once: &[&[Work::Direct(SYN, 1)], &[Work::Reply(ACK, 1)]],
    };
    let lives = |world: &World| {
        let flows = world.flows4(FlowTable::Main);
        let states = flows.values().map(|value| FlowWord(value.word).state());
        flows.len() == 2 && states.into_iter().all(|it| !it.has(FlowState::RST) && !it.has(FlowState::DEAD))
    };
    let (mut at, mut saved) = (0, 0);
    loop {
        let lived = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&lived);
        let then = move |world: &World| seen.store(lives(world), Ordering::SeqCst);
        let Some(world) = interrupted(&STORY, at, then) else { break };
        if lived.load(Ordering::SeqCst) {
            assert!(lives(&world), "a living flow is gone, at access {at}");
            saved += 1;
        }
        at += 1;
    }
    assert!(saved > 0 && at > saved, "{saved} of {at}");
}

#[test]
fn a_living_flow_does_not_make_way() {
    const STORY: Story = Story {
        scene: TCP,
        sizes: ROOM,
        embryonic: ANY,
        before: &[Work::Send(SYN, 1, 0), Work::Reply(SYN_ACK, 1)],
        at_once: &[
            &[Work::Direct(SYN, 1)],
            &[Work::Send(ACK, 1, 0), Work::Send(ACK, 1, 0)],
            &[Work::Reply(ACK, 1), Work::Sweep],
        ],
    };
    explore(&STORY, |seen, world| {
        assert_eq!(seen[0], [there()]);
        assert_eq!(seen[1], [there(), there()]);
        assert_eq!(seen[2][0], Some((TCP.vip(10, 80), TCP.pod(7, 1))));
        assert_eq!(world.flows4(FlowTable::Main).len(), 2);
    });
}
