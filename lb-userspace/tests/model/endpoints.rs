//! What of slices, Pods and Endpoints objects counts.

use serde_json::json;

use super::support::*;

#[test]
fn b27_b28_b29_what_of_a_slice_counts() {
    let endpoints = json!([endpoint("10.1.0.1", "n1", "rs")]);
    let nothing = [
        (
            "b27: no label",
            json!({"metadata": {"labels": {"kubernetes.io/service-name": null}}, "endpoints": null}),
        ),
        ("b27: other namespace", json!({"metadata": {"namespace": "other"}, "endpoints": endpoints})),
        (
            "b2: headless label",
            json!({"metadata": {"labels": {"service.kubernetes.io/headless": ""}}, "endpoints": endpoints}),
        ),
        ("b28: FQDN", json!({"addressType": "FQDN", "endpoints": [{"addresses": ["example.com"]}]})),
        ("b28: other family", json!({"addressType": "IPv6", "endpoints": [{"addresses": ["fd00::1"]}]})),
        ("b29: nil name", json!({"ports": [{"port": 8080}], "endpoints": endpoints})),
        ("b29: nil port", json!({"ports": [{"name": "http"}], "endpoints": endpoints})),
        ("b29: port 0", json!({"ports": [{"name": "http", "port": 0}], "endpoints": endpoints})),
        ("b29: other name", json!({"ports": [{"name": "", "port": 8080}], "endpoints": endpoints})),
        (
            "b29: other protocol",
            json!({"ports": [{"name": "http", "port": 8080, "protocol": "UDP"}], "endpoints": endpoints}),
        ),
    ];
    for (case, more) in nothing {
        let base = json!({"kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"namespace": "d", "name": "a", "labels": {"kubernetes.io/service-name": "s"}},
            "ports": [{"name": "http", "port": 8080}]});
        let mut value = merge(base, more);
        if value["metadata"]["labels"]["kubernetes.io/service-name"].is_null() {
            value["metadata"]["labels"] = json!({});
        }
        assert_sets(&only(&[service(json!({})), object(value)]), ["", "", ""], case);
    }
    let (ports, problems) = outcome(&[
        service(json!({})),
        slice(
            "a",
            json!([{"addresses": ["10.1.0.1", "10.1.0.9"]}, {"addresses": []}, {"addresses": ["127.0.0.1"]}, {"addresses": ["fd00::1"]}]),
        ),
    ]);
    assert_sets(&ports["d/s:http/TCP/v4"], ["1", "", "1"], "only the first address, of the right family");
    assert_eq!(problems, ["EndpointSlice d/a: 3 endpoint addresses cannot be used, the first ``: left out"]);
}

#[test]
fn b31_an_endpoint_that_moves_between_slices_never_vanishes() {
    let mut followed = Followed::new();
    let here = json!([endpoint("10.1.0.1", "n1", "rs")]);
    followed.apply(&service(json!({})));
    assert_eq!(followed.apply(&slice("a", here.clone())), 1);
    assert_eq!(followed.apply(&slice("b", here.clone())), 0);
    assert_eq!(followed.apply(&slice("a", json!([]))), 0);
    let stranger = slice_with(
        "b",
        json!({"endpoints": here, "metadata": {"labels": {"kubernetes.io/service-name": "other"}}}),
    );
    assert_eq!(followed.apply(&stranger), 1, "the slice now belongs to another Service");
    assert_sets(&followed.ports["d/s:http/TCP/v4"], ["", "", ""], "left");
}

#[test]
fn b15_pods_are_endpoints_where_there_are_no_slices() {
    let selecting = |more| {
        service(merge(
            json!({"spec": {"selector": {"app": "a"}, "ports": [{"name": "http", "port": 80, "targetPort": "web"}]}}),
            more,
        ))
    };
    let named = |port: u16| json!({"spec": {"containers": [{"name": "x"}, {"ports": [{"name": "web", "protocol": "UDP", "containerPort": 9}, {"name": "web", "containerPort": port}]}]}});
    let sidecar = json!({"spec": {"initContainers": [{"ports": [{"name": "web", "containerPort": 1}]}, {"restartPolicy": "Always", "ports": [{"name": "web", "containerPort": 8084}]}]}});
    let unready = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    let leaving = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let objects = [
        selecting(json!({})),
        pod("one", "10.1.0.1", named(8080)),
        pod("two", "10.1.0.2", merge(named(8082), json!({"spec": {"nodeName": "n2", "hostNetwork": true}}))),
        pod("no such port", "10.1.0.3", json!({})),
        pod("sidecar", "10.1.0.4", sidecar),
        pod("unready", "10.1.0.5", merge(named(8080), unready.clone())),
        pod("leaving", "10.1.0.6", merge(named(8080), leaving.clone())),
        pod("done", "10.1.0.7", merge(named(8080), json!({"status": {"phase": "Succeeded"}}))),
        pod("failed", "10.1.0.8", merge(named(8080), json!({"status": {"phase": "Failed"}}))),
        pod("other", "10.1.0.9", merge(named(8080), json!({"metadata": {"labels": {"app": "b"}}}))),
        pod("pending", "", merge(named(8080), json!({"status": {"podIPs": null}}))),
    ];
    assert_sets(
        &only(&objects),
        ["1 2:8082 4:8084", "1 4:8084", "1 2:8082 4:8084 6"],
        "as the controller would",
    );

    let anyway = json!({"spec": {"publishNotReadyAddresses": true}});
    let gone = merge(named(8080), merge(unready, leaving));
    let port =
        only(&[selecting(anyway), pod("a", "10.1.0.1", gone.clone()), pod("b", "10.1.0.2", named(8080))]);
    assert_sets(&port, ["1 2", "1 2", "1 2"], "b34: publishNotReadyAddresses");
    let port = only(&[selecting(json!({})), pod("a", "10.1.0.1", gone)]);
    assert_sets(&port, ["", "", ""], "terminating and not serving");

    let number = json!({"spec": {"ports": [{"name": "http", "port": 80}]}});
    assert_sets(
        &only(&[selecting(number), pod("a", "10.1.0.1", json!({}))]),
        ["1:80", "1:80", "1:80"],
        "targetPort absent",
    );
    let headless = json!({"metadata": {"labels": {"service.kubernetes.io/headless": ""}}});
    assert_sets(&only(&[selecting(headless), pod("a", "10.1.0.1", named(1))]), ["", "", ""], "b2");
}

#[test]
fn pods_have_an_endpoint_in_each_family() {
    let dual = json!({"spec": {"selector": {"app": "a"}, "clusterIPs": ["10.0.0.1", "fd00::1"]}});
    let ports = ports(&[
        service(dual),
        pod("a", "10.1.0.1", json!({"status": {"podIPs": [{"ip": "10.1.0.1"}, {"ip": "fd01::1"}]}})),
    ]);
    assert_eq!(ports["d/s:http/TCP/v4"].cluster, ["10.1.0.1:80".parse().unwrap()]);
    assert_eq!(ports["d/s:http/TCP/v6"].cluster, ["[fd01::1]:80".parse().unwrap()]);
}

#[test]
fn real_slices_win_over_pods() {
    let selecting = service(json!({"spec": {"selector": {"app": "a"}}}));
    let objects =
        [selecting, pod("a", "10.1.0.9", json!({})), slice("a", json!([endpoint("10.1.0.1", "n2", "rs")]))];
    let (ports, problems) = outcome(&objects);
    assert_sets(&ports["d/s:http/TCP/v4"], ["1", "", "1"], "slices");
    assert_eq!(problems, ["Service d/s: it has EndpointSlices: the Pods that it selects are not looked at"]);
    let mut followed = Followed::new();
    for object in &objects {
        followed.apply(object);
    }
    followed.delete(&objects[2]);
    assert_sets(
        &followed.ports["d/s:http/TCP/v4"],
        ["9:80", "9:80", "9:80"],
        "Pods once the last slice is gone",
    );
}

#[test]
fn b27_endpoints_are_mirrored_where_there_is_no_selector() {
    let endpoints = |more| {
        let base = json!({"kind": "Endpoints", "metadata": {"namespace": "d", "name": "s"}, "subsets": [
            {"addresses": [{"ip": "10.1.0.1", "nodeName": "n1"}, {"ip": "fd01::1"}], "notReadyAddresses": [{"ip": "10.1.0.2"}],
             "ports": [{"name": "http", "port": 8080}]},
            {"addresses": [{"ip": "10.1.0.3"}], "ports": [{"name": "http", "port": 8083}]}]});
        object(merge(base, more))
    };
    assert_sets(
        &only(&[service(json!({})), endpoints(json!({}))]),
        ["1 3:8083", "1", "1 2 3:8083"],
        "mirrored",
    );
    let skipped = json!({"metadata": {"labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}}});
    assert_sets(&only(&[service(json!({})), endpoints(skipped)]), ["", "", ""], "skip-mirror");
    let real = slice("a", json!([endpoint("10.1.0.9", "n2", "rs")]));
    assert_sets(&only(&[service(json!({})), endpoints(json!({})), real]), ["9", "", "9"], "real slices");
    let unnamed = json!({"spec": {"ports": [{"port": 80}]}});
    let plain = json!({"subsets": [{"addresses": [{"ip": "10.1.0.1"}], "ports": [{"port": 8080}]}]});
    assert_sets(&only(&[service(unnamed), endpoints(plain)]), ["1", "", "1"], "unnamed port");
    let (ports, problems) =
        outcome(&[service(json!({"spec": {"selector": {"app": "a"}}})), endpoints(json!({}))]);
    assert_sets(&ports["d/s:http/TCP/v4"], ["", "", ""], "selector");
    assert_eq!(problems.len(), 1);
}
