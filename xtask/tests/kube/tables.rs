//! What agents should have in their tables, told from the objects of the API server by the plainest means.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde_json::Value;
use xtask::kube::{Api, Cluster};
use xtask::lab::Machine;

/// A Service port: namespace, name, port's name, protocol, ClusterIP and port.
type Key = (String, String, String, String, String, u64);

/// Service ports and the endpoints that new connections may choose.
pub(crate) type Tables = BTreeMap<Key, BTreeSet<SocketAddr>>;

/// What every machine should have: for Services without policies, hints or affinity.
pub(crate) fn desired(api: &Api) -> Result<Tables, String> {
    let list = |path: &str| -> Result<Vec<Value>, String> {
        let list = api.get(path).map_err(|error| format!("{error:#}"))?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    };
    let slices = list("/apis/discovery.k8s.io/v1/endpointslices")?;
    let mut tables = Tables::new();
    for service in list("/api/v1/services")? {
        let (meta, spec) = (&service["metadata"], &service["spec"]);
        for address in spec["clusterIPs"].as_array().into_iter().flatten().map(text) {
            for port in spec["ports"].as_array().into_iter().flatten() {
                let (name, protocol) = (text(&port["name"]), text(&port["protocol"]));
                let of_service = |slice: &&Value| {
                    slice["metadata"]["namespace"] == meta["namespace"]
                        && slice["metadata"]["labels"]["kubernetes.io/service-name"] == meta["name"]
                        && (slice["addressType"] == "IPv6") == address.contains(':')
                };
                let endpoints =
                    slices.iter().filter(of_service).flat_map(|slice| ready(slice, &name, &protocol));
                let key = (
                    text(&meta["namespace"]),
                    text(&meta["name"]),
                    name.clone(),
                    protocol.clone(),
                    address.clone(),
                    port["port"].as_u64().unwrap_or_default(),
                );
                tables.insert(key, endpoints.collect());
            }
        }
    }
    Ok(tables)
}

/// The ready endpoints of a slice at its port of this name and protocol.
fn ready(slice: &Value, name: &str, protocol: &str) -> Vec<SocketAddr> {
    let mut ports = slice["ports"].as_array().into_iter().flatten();
    let port = ports.find(|port| text(&port["name"]) == name && port["protocol"] == protocol);
    let Some(port) = port.and_then(|port| u16::try_from(port["port"].as_u64()?).ok()) else {
        return Vec::new();
    };
    let endpoints = slice["endpoints"].as_array().into_iter().flatten();
    let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] != false);
    ready.map(|endpoint| SocketAddr::new(text(&endpoint["addresses"][0]).parse().unwrap(), port)).collect()
}

/// What the tables of `machine` have.
pub(crate) fn shown(machine: &Machine) -> Result<Tables, String> {
    let list = |what: &str| -> Result<Vec<Value>, String> {
        let list = machine.sluice_json(&[what, "list"]).map_err(|error| format!("{error:#}"))?;
        Ok(list.as_array().cloned().unwrap_or_default())
    };
    let mut endpoints: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    let port_key = |port: &Value, name: &str| {
        (
            text(&port["namespace"]),
            text(&port[name]),
            text(&port["port_name"]),
            text(&port["proto"]),
            text(&port["family"]),
        )
    };
    for backend in list("backend")?.iter().filter(|backend| backend["selected"] == true) {
        let port = u16::try_from(backend["port"].as_u64().unwrap_or_default()).unwrap();
        let address = SocketAddr::new(text(&backend["address"]).parse().unwrap(), port);
        endpoints.entry(port_key(backend, "service")).or_default().insert(address);
    }
    let mut tables = Tables::new();
    for port in list("service")? {
        let key = port_key(&port, "name");
        let of_port = endpoints.get(&key).cloned().unwrap_or_default();
        let (namespace, name, port_name, protocol, _) = key;
        for address in port["addresses"].as_array().into_iter().flatten().map(text) {
            let number = port["port"].as_u64().unwrap_or_default();
            let key = (namespace.clone(), name.clone(), port_name.clone(), protocol.clone(), address, number);
            tables.insert(key, of_port.clone());
        }
    }
    Ok(tables)
}

/// What is wrong with the tables of all machines of `cluster`, if anything is.
pub(crate) fn differ(cluster: &Cluster) -> Result<(), String> {
    let desired = desired(cluster.api())?;
    for machine in cluster.nodes() {
        let shown = shown(machine)?;
        let missing = desired.iter().find(|(key, endpoints)| shown.get(key) != Some(endpoints));
        if let Some((key, endpoints)) = missing {
            return Err(format!(
                "{}: {key:?} has {:?}, should have {endpoints:?}",
                machine.name(),
                shown.get(key)
            ));
        }
        if let Some(key) = shown.keys().find(|key| !desired.contains_key(key)) {
            return Err(format!("{}: {key:?} is no Service port any more", machine.name()));
        }
    }
    Ok(())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
