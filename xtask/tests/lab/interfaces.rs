//! Interfaces of the node: those that pods are behind, and those whose addresses are Services'.

use std::net::IpAddr;

use xtask::lab::wait_for;

use crate::support::{SOON, World, worlds};

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
