//! The objects: Services without selectors, each with one slice, as their controller would write it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_bench::target;
use serde_json::{Value, json};

use super::steps::Steps;
use crate::kube::{Api, ControlPlane};
use crate::sh;

/// The Kubernetes namespace of all of them.
pub(super) const NAMESPACE: &str = "bench";

/// The port of Services.
pub(super) const PORT: u16 = target::PORT;

/// The port of pods.
pub(super) const TARGET: u16 = target::ENDPOINT_PORT;

/// Who creates at once: more do not make the API server faster.
const WRITERS: usize = 16;

/// Services whose pods are replaced at once, as those of so many Deployments.
const BURST: u32 = 100;

/// Addresses of Services, which leave out those below, that the API server gives by itself.
fn service_ip(index: u32) -> IpAddr {
    Ipv4Addr::from(u32::from(target::OTHERS) + index).into()
}

/// Where the endpoints of all Services but [`PROBE`] and [`STEADY`] are.
pub(super) const ENDPOINTS: &str = "241.0.0.0/10";

/// The addresses of the pods by turns behind the probe, and of the one behind the steady Service.
pub(super) const PODS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(10, 127, 0, 1), Ipv4Addr::new(10, 127, 0, 2), Ipv4Addr::new(10, 127, 0, 3)];

/// So many endpoints does Sluice have room for by default, and some more.
pub(super) const MOST_ENDPOINTS: u32 = 260_000;

/// What is made: this many Services with this many endpoints each, and the two that are always there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Size {
    /// Services, [`PROBE`] among them.
    pub(super) services: u32,
    /// Endpoints of each.
    pub(super) endpoints: u32,
}

impl Size {
    /// Where the Service `index` (from 0) is.
    pub(super) fn service(index: u32) -> SocketAddr {
        SocketAddr::new(service_ip(index), PORT)
    }

    /// Where all Services are, but for the steady one.
    pub(super) fn all(self) -> Vec<SocketAddr> {
        (0..self.services).map(Self::service).collect()
    }

    /// At most `count` of them: evenly chosen, the last one among them.
    pub(super) fn some(self, count: u32) -> Vec<SocketAddr> {
        let count = count.min(self.services);
        (1..=count).map(|part| Self::service(self.services * part / count - 1)).collect()
    }

    /// The last one by name, whose endpoint changes.
    pub(super) fn probe(self) -> SocketAddr {
        Self::service(self.services - 1)
    }

    /// One more, of both protocols, that traffic goes to.
    pub(super) fn steady(self) -> SocketAddr {
        Self::service(self.services)
    }

    /// The address of a Service that is not among all these.
    pub(super) fn spare(self) -> IpAddr {
        service_ip(self.services + 1)
    }

    /// Where the slice of the probe is on the API server.
    pub(super) fn probe_path(self) -> String {
        format!("{}/{}", slices(), name(self.services - 1))
    }

    /// The endpoints of the probe: of as many as any other Service has, one is ready, the pod `turn`.
    pub(super) fn probe_endpoints(self, turn: usize) -> Vec<Value> {
        self.turned(self.services - 1, turn)
    }

    /// The same of any other Service.
    fn turned(self, index: u32, turn: usize) -> Vec<Value> {
        let others = (1..self.endpoints).map(|place| endpoint(self.address(index, place), false));
        [endpoint(PODS[turn % 2], true)].into_iter().chain(others).collect()
    }

    /// At most [`BURST`] Services, evenly chosen, without the probe.
    fn burst(self) -> Vec<u32> {
        let all = self.services - 1;
        let count = all.min(BURST);
        (1..=count).map(|part| all * part / count - 1).collect()
    }

    /// Where they are.
    pub(super) fn burst_places(self) -> Vec<SocketAddr> {
        self.burst().into_iter().map(Self::service).collect()
    }

    /// The endpoints that the Service `index` begins with.
    fn own_endpoints(self, index: u32) -> Vec<Value> {
        (0..self.endpoints).map(|place| endpoint(self.address(index, place), true)).collect()
    }

    fn address(self, service: u32, place: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(target::ENDPOINT) + service * self.endpoints + place)
    }

    /// The objects of the Service `index`: itself and its slice.
    fn objects(self, index: u32) -> [Value; 2] {
        let probe = self.services - 1;
        let endpoints = match index {
            _ if index == probe => self.probe_endpoints(0),
            _ if index > probe => vec![endpoint(PODS[2], true)],
            _ => self.own_endpoints(index),
        };
        let protocols: &[&str] = if index > probe { &["TCP", "UDP"] } else { &["TCP"] };
        let ports = |target: bool| -> Vec<Value> {
            let port = |protocol: &&str| {
                let name = protocol.to_lowercase();
                let number = if target { TARGET } else { PORT };
                json!({ "name": name, "protocol": protocol, "port": number })
            };
            protocols.iter().map(port).collect()
        };
        let name = name(index);
        let spec = json!({ "clusterIP": service_ip(index), "ports": ports(false) });
        let (mut service, mut slice) = (service(&name, &spec), slice(&name, &ports(true), &endpoints));
        service["metadata"]["labels"] = json!({ "app": name });
        slice["metadata"]["labels"]["app"] = json!(name);
        slice["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] = json!("bench.sluice");
        [service, slice]
    }
}

fn name(index: u32) -> String {
    format!("service-{index:05}")
}

/// A Service.
pub(super) fn service(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": spec,
    })
}

/// The slice of the Service called `name`.
pub(super) fn slice(name: &str, ports: &[Value], endpoints: &[Value]) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "labels": { "kubernetes.io/service-name": name },
        },
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": endpoints,
    })
}

/// An endpoint with all that its controller says of a pod.
pub(super) fn endpoint(address: Ipv4Addr, ready: bool) -> Value {
    let pod = format!("pod-{:08x}", u32::from(address));
    json!({
        "addresses": [address],
        "conditions": { "ready": ready, "serving": ready, "terminating": false },
        "nodeName": format!("node-{}", address.octets()[3]),
        "zone": "zone-a",
        "targetRef": {
            "kind": "Pod",
            "namespace": NAMESPACE,
            "name": pod,
            "uid": format!("{:08x}-0000-4000-8000-000000000000", u32::from(address)),
        },
    })
}

fn services() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/services")
}

/// Where slices are on the API server.
pub(super) fn slices() -> String {
    format!("/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices")
}

/// What a proxy lists.
pub(super) fn lists() -> [String; 2] {
    [services(), slices()]
}

/// Has several writers call `write` for each number below `end`, as fast as the API server takes it.
fn written(plane: &ControlPlane, end: u32, write: impl Fn(&Api, u32) -> Result<()> + Sync) -> Result<()> {
    // A client keeps few connections for those who wait.
    let clients: Vec<Api> = (0..WRITERS).map(|_| plane.client()).collect::<Result<_>>()?;
    let next = AtomicU32::new(0);
    plane.space().within(|| {
        thread::scope(|scope| {
            let work = |api: &Api| -> Result<()> {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= end {
                        return Ok(());
                    }
                    write(api, index)?;
                }
            };
            let writers: Vec<_> = clients.iter().map(|api| scope.spawn(move || work(api))).collect();
            writers.into_iter().try_for_each(|writer| sh::joined(writer.join()))
        })
    })
}

/// Creates all of them.
pub(super) fn create(plane: &ControlPlane, size: Size, steps: &Steps) -> Result<()> {
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } });
    plane.api().post("/api/v1/namespaces", &namespace)?;
    let end = size.services + 1;
    let step = (end / 4).max(1000);
    written(plane, end, |api, index| {
        let [service, slice] = size.objects(index);
        api.post(&services(), &service)?;
        api.post(&slices(), &slice)?;
        if index > 0 && index % step == 0 {
            steps.say(&format!("created {index} of {end} Services"));
        }
        Ok(())
    })
}

/// Puts the pod `turn` behind each Service of a burst, or what was there at first.
pub(super) fn burst(plane: &ControlPlane, size: Size, turn: Option<usize>) -> Result<()> {
    let all = size.burst();
    written(plane, all.len() as u32, |api, place| {
        let Some(index) = all.get(place as usize).copied() else { return Ok(()) };
        let endpoints = turn.map_or_else(|| size.own_endpoints(index), |turn| size.turned(index, turn));
        let path = format!("{}/{}", slices(), name(index));
        api.merge(&path, &json!({ "endpoints": endpoints })).map(|_| ())
    })
}

/// Lists Services and slices at once, as bytes that nobody reads: seconds, and mebibytes.
pub(super) fn list(plane: &ControlPlane) -> Result<[f64; 2]> {
    let clients = [plane.client()?, plane.client()?];
    plane.space().within(|| {
        let begun = std::time::Instant::now();
        let bytes: usize = thread::scope(|scope| {
            let both = clients.iter().zip(lists()).map(|(api, path)| scope.spawn(move || api.text(&path)));
            let both: Vec<_> = both.collect();
            both.into_iter()
                .try_fold(0, |sum, one| Ok::<_, anyhow::Error>(sum + sh::joined(one.join())?.len()))
        })?;
        let took: Duration = begun.elapsed();
        ensure!(bytes > 0, "the lists are empty");
        Ok([took.as_secs_f64(), bytes as f64 / f64::from(1 << 20)])
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn services_and_endpoints_have_addresses_of_their_own() {
        let size = Size { services: 1000, endpoints: 10 };
        let mut seen = BTreeSet::new();
        for index in 0..=size.services {
            let [service, slice] = size.objects(index);
            assert!(seen.insert(service["spec"]["clusterIP"].to_string()), "{service}");
            for endpoint in slice["endpoints"].as_array().unwrap() {
                assert!(seen.insert(endpoint["addresses"][0].to_string()), "{endpoint}");
            }
        }
        assert_eq!(seen.len(), 1001 + 10_000 + 1);
        assert_eq!(Size::service(50_001).to_string(), "10.96.211.81:80");
    }

    #[test]
    fn some_are_spread_and_the_last_one_is_among_them() {
        let size = Size { services: 1000, endpoints: 1 };
        let some = size.some(64);
        assert_eq!((some.len(), some.last()), (64, Some(&size.probe())));
        assert_eq!(Size { services: 5, ..size }.some(64), (0..5).map(Size::service).collect::<Vec<_>>());
    }

    #[test]
    fn a_burst_leaves_the_probe_alone() {
        let size = Size { services: 1000, endpoints: 2 };
        let burst: BTreeSet<_> = size.burst().into_iter().collect();
        assert_eq!((burst.len(), burst.last()), (100, Some(&998)));
        assert_eq!(Size { services: 3, ..size }.burst(), [0, 1]);
    }

    #[test]
    fn the_probe_is_served_by_one_pod_at_a_time() {
        let size = Size { services: 3, endpoints: 4 };
        for turn in 0..3 {
            let endpoints = size.probe_endpoints(turn);
            let ready: Vec<_> =
                endpoints.iter().filter(|endpoint| endpoint["conditions"]["ready"] == true).collect();
            assert_eq!((endpoints.len(), ready.len()), (4, 1));
            assert_eq!(ready[0]["addresses"][0], json!(PODS[turn % 2]));
        }
    }
}
