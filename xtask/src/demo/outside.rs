//! A client that is no pod: the node port and the load balancer of `outside.yaml`.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};

use super::steps::{Demo, count, curl};
use crate::lab::Node;

/// The port of `python-api-nodeport` at nodes.
const NODE_PORT: u16 = 30_080;
/// The addresses of `python-api-lb`.
const LOAD_BALANCER: [&str; 2] = ["203.0.113.80", "fd02::80"];

impl Demo<'_> {
    /// The node port is shared evenly, the load balancer keeps a client with its pod, and pods see the client itself.
    pub(super) fn outside(&self) -> Result<String> {
        let client = self.node.router();
        let mut seen = Vec::new();
        for (node, balancer) in Node::addresses().into_iter().zip(LOAD_BALANCER) {
            let balancer = SocketAddr::new(balancer.parse()?, 443);
            client.ip(&format!("route replace {} via {node}\n", balancer.ip()))?;
            for (to, pods) in [(SocketAddr::new(node, NODE_PORT), 3), (balancer, 1)] {
                let answers =
                    curl(client, &format!("http://{to}/?[1-30]")).with_context(|| to.to_string())?;
                let counts = count(answers.iter().map(|answer| answer.pod.as_str()));
                let even = counts.values().all(|count| count * pods == answers.len());
                ensure!(counts.len() == pods && even, "{to}: {counts:?}");
                seen.extend(answers.into_iter().map(|answer| answer.client.ip().to_string()));
            }
        }
        let seen = count(seen.iter().map(String::as_str));
        let hidden = Node::addresses().iter().any(|node| seen.contains_key(node.to_string().as_str()));
        ensure!(seen.len() == 2 && !hidden, "pods saw {seen:?}");
        Ok(format!("120 of 120 answered; pods saw {}", seen.into_keys().collect::<Vec<_>>().join(" and ")))
    }
}
