//! A client's connections find the endpoint that it had last.

use std::net::SocketAddr;

use crate::story::{ANY, ROOM, SYN, Seen, Story, TCP, Work, explore};

/// The endpoint, where the packet was let through.
fn endpoint(seen: &Seen) -> Option<SocketAddr> {
    seen.map(|(_, to)| to)
}

/// Four connections of one client, on three CPUs.
const BURST: &[&[Work]] =
    &[&[Work::Send(SYN, 1, 2), Work::Send(SYN, 4, 2)], &[Work::Send(SYN, 2, 2)], &[Work::Send(SYN, 3, 2)]];

/// All were let through, to one endpoint.
fn all_at_one(seen: &[Vec<Seen>]) {
    let first = endpoint(&seen[0][0]);
    assert!(first.is_some() && seen.iter().flatten().all(|seen| endpoint(seen) == first), "{seen:?}");
}

#[test]
fn b62_two_cpus_open_the_first_connections_of_one_client() {
    const STORY: Story = Story { scene: TCP, sizes: ROOM, embryonic: ANY, before: &[], at_once: BURST };
    explore(&STORY, |seen, _| all_at_one(seen));
}

#[test]
fn b64_two_cpus_renew_what_has_timed_out() {
    const STORY: Story = Story {
        scene: TCP,
        sizes: ROOM,
        embryonic: ANY,
        before: &[Work::Send(SYN, 9, 2), Work::Idle(11)],
        at_once: BURST,
    };
    explore(&STORY, |seen, _| all_at_one(seen));
}

#[test]
fn b65_a_backend_stops_while_its_client_connects() {
    const STORY: Story = Story {
        scene: TCP,
        sizes: ROOM,
        embryonic: ANY,
        before: &[Work::Send(SYN, 9, 2)],
        at_once: &[&[Work::Stop, Work::Send(SYN, 1, 2)], &[Work::Send(SYN, 2, 2), Work::Send(SYN, 3, 2)]],
    };
    explore(&STORY, |seen, _| {
        assert_eq!(endpoint(&seen[0][1]), Some(TCP.endpoint(2)));
        // Once on the other one, never back.
        let [first, second] = [&seen[1][0], &seen[1][1]].map(endpoint);
        assert!(first == Some(TCP.endpoint(1)) || first == second, "{seen:?}");
    });
}
