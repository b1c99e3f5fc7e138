//! Which endpoints new connections may choose, as sockets see it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value;
use xtask::lab::Pod;
use xtask::lab::manifest::{Endpoint, slice};

use crate::support::{Svc, WAYS, worlds};

/// Slices of both families with these endpoints; `number` tells slices of one family apart.
pub(crate) fn slices(service: &Svc<'_>, number: u8, endpoints: &[(&Pod, [bool; 3])]) -> [Value; 2] {
    [0, 1].map(|family| {
        let endpoints: Vec<_> =
            endpoints.iter().map(|(pod, conditions)| endpoint(pod.ips()[family], *conditions)).collect();
        slice(&format!("{}-{number}-{family}", service.name), &service.name, &service.ports, &endpoints)
    })
}

/// An endpoint that is so far ready, serving and terminating.
pub(crate) fn endpoint(addr: IpAddr, [ready, serving, terminating]: [bool; 3]) -> Endpoint {
    Endpoint { addr, ready, serving, terminating }
}

pub(crate) const READY: [bool; 3] = [true, true, false];
pub(crate) const UNREADY: [bool; 3] = [false, false, false];
pub(crate) const DRAINING: [bool; 3] = [false, true, true];
const ENDING: [bool; 3] = [false, false, true];

/// Asserts that exactly `backends` answer new connections, from everywhere.
fn answered_by(service: &Svc<'_>, backends: &[&Pod]) {
    service.wait(backends);
    let expected: BTreeSet<_> = backends.iter().map(|pod| pod.name().to_owned()).collect();
    service.world.everywhere(|case, client, way| {
        let answers = (0..2 * backends.len()).map(|_| case.answered(service.ask(client, way)).0);
        assert_eq!(answers.collect::<BTreeSet<_>>(), expected, "{case}");
    });
}

#[test]
fn b49_endpoints_come_and_go() {
    for world in worlds() {
        let service = world.service("b49", &[&world.a]);
        answered_by(&service, &[&world.a]);
        service.set(&[&world.a, &world.b, &world.remote]);
        answered_by(&service, &[&world.a, &world.b, &world.remote]);
        service.set(&[&world.c]);
        answered_by(&service, &[&world.c]);
    }
}

#[test]
fn b30_duplicates_prefer_the_living_copy() {
    for world in worlds() {
        let service = world.service("b30", &[]);
        let dying = slices(&service, 1, &[(&world.a, ENDING)]);
        let living = slices(&service, 2, &[(&world.a, READY)]);
        service.write(&[dying, living].concat());
        answered_by(&service, &[&world.a]);
    }
}

#[test]
fn b31_an_endpoint_moves_between_slices_under_load() {
    let [world, _] = worlds();
    let service = world.service("b31", &[&world.a]);
    let way = WAYS[0];
    let load = xtask::lab::helper::wire::Load { to: service.at(way), clients: 4, rate: 400 };
    world.b.start_load(load).unwrap();
    for number in 0..20 {
        service.write(&slices(&service, number % 2, &[(&world.a, READY)]));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let report = world.b.stop_load().unwrap();
    assert!(report.failed.is_empty(), "{:?}", report.failed);
    assert!(report.answered.len() > 100);
}

#[test]
fn b34_ready_and_terminating_is_fully_usable() {
    for world in worlds() {
        let service = world.service("b34", &[]);
        service.write(&slices(&service, 1, &[(&world.a, [true, true, true]), (&world.b, UNREADY)]));
        answered_by(&service, &[&world.a]);
    }
}

#[test]
fn b50_draining_endpoints_serve_only_while_none_is_ready() {
    for world in worlds() {
        let service = world.service("b50", &[]);
        service.write(&slices(&service, 1, &[(&world.a, READY), (&world.b, DRAINING), (&world.c, ENDING)]));
        answered_by(&service, &[&world.a]);
        service.write(&slices(&service, 1, &[(&world.a, UNREADY), (&world.b, DRAINING), (&world.c, ENDING)]));
        answered_by(&service, &[&world.b]);
    }
}
