//! A node of a test: a namespace, and the agent in it as a process.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::support::{Netns, TestCgroup, TestPins, run};

const MANIFESTS: &str = "\
apiVersion: v1
kind: Node
metadata: {name: node-a}
status: {addresses: [{type: InternalIP, address: 10.77.0.2}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {clusterIP: 10.96.0.10, clusterIPs: [10.96.0.10], ports: [{port: 80, protocol: TCP}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 8080, protocol: TCP}]
endpoints: [{addresses: [10.77.1.2], conditions: {ready: true}}]
";

/// A node: a namespace with two addresses, a cgroup, pins and manifests.
pub(crate) struct Node {
    pub(crate) pins: TestPins,
    pub(crate) netns: Netns,
    pub(crate) cgroup: TestCgroup,
    pub(crate) manifests: tempfile::TempDir,
}

impl Node {
    pub(crate) fn new() -> Self {
        let node = Self {
            pins: TestPins::new(),
            netns: Netns::new(),
            cgroup: TestCgroup::new(),
            manifests: tempfile::tempdir().unwrap(),
        };
        node.netns.veth("up0");
        for command in ["addr add 10.77.0.1/24 dev up0", "addr add 10.77.0.2/24 dev up0"] {
            run(&format!("ip -n {} {command}", node.netns.0));
        }
        node.write(MANIFESTS);
        node
    }

    pub(crate) fn write(&self, text: &str) {
        fs::write(self.manifests.path().join("all.yaml"), text).unwrap();
    }

    /// `sluice` with this node's pins, in its namespace.
    pub(crate) fn sluice(&self, args: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{}", self.netns.0))
            .arg(env!("CARGO_BIN_EXE_sluice"))
            .arg("--pin-dir")
            .arg(self.pins.0.root())
            .args(args);
        command
    }

    pub(crate) fn agent(&self) -> Command {
        let mut command = self.sluice(&["agent", "--hostname-override", "Node-A", "--max-flows", "1024"]);
        command
            .args(["--max-services", "64", "--max-backends", "64", "--manifests"])
            .arg(self.manifests.path())
            .arg("--cgroup-root")
            .arg(&self.cgroup.0);
        command
    }

    pub(crate) fn start(&self) -> Agent<'_> {
        self.start_as(self.agent())
    }

    /// Starts `agent`, which is [`Node::agent`] or runs it.
    pub(crate) fn start_as(&self, agent: Command) -> Agent<'_> {
        let mut agent = self.spawn(agent);
        agent.wait("synced", |status| status["synced"] == true);
        agent
    }

    pub(crate) fn spawn(&self, mut agent: Command) -> Agent<'_> {
        let log = self.manifests.path().join("log");
        let file = fs::File::create(&log).unwrap();
        let child = agent.stderr(file).spawn().unwrap();
        Agent { node: self, child, log }
    }

    pub(crate) fn status(&self) -> Value {
        Self::parse(&mut self.sluice(&["-j", "status"]))
    }

    /// As in a container, where neither `/proc` nor `/proc/locks` has the agent.
    pub(crate) fn status_from_another_pid_namespace(&self) -> Value {
        let status = self.sluice(&["-j", "status"]);
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--fork", "--mount-proc"]).arg(status.get_program()).args(status.get_args());
        Self::parse(&mut unshare)
    }

    fn parse(status: &mut Command) -> Value {
        let output = status.output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// A running agent.
pub(crate) struct Agent<'a> {
    node: &'a Node,
    pub(crate) child: Child,
    pub(crate) log: PathBuf,
}

impl Agent<'_> {
    /// Waits until the status is as wanted, for at most as long as loading may take on a busy machine.
    pub(crate) fn wait(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let status = self.node.status();
            if wanted(&status) {
                return;
            }
            let log = fs::read_to_string(&self.log).unwrap();
            let alive = self.child.try_wait().unwrap().is_none();
            assert!(alive && Instant::now() < end, "not {what}: {status}\n{log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn stop(mut self) -> String {
        run(&format!("kill -TERM {}", self.child.id()));
        assert!(self.child.wait().unwrap().success());
        fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
