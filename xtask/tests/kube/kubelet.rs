//! The kubelet of a namespace: it runs the pods of Deployments, asks their readiness probes and ends them. And the
//! scheduler, which takes the machines in turn.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use xtask::kube::objects;
use xtask::lab::{Pod, wait_for};

use crate::support::cluster;

/// The addresses of the cluster's DNS, as in `examples/tutorial/cluster/coredns.yaml`.
pub(crate) const DNS: [&str; 2] = ["10.96.0.10", "fd00:10:96::a"];

/// What runs for a container, by its image: the program's path, from the name in its command.
pub(crate) type Image = fn(&str) -> PathBuf;

/// Pods of one namespace that it runs.
pub(crate) struct Kubelet {
    namespace: String,
    image: Image,
    running: BTreeMap<String, Running>,
    started: usize,
}

struct Running {
    pod: Pod,
    node: usize,
    child: Child,
    ready: bool,
    ending: bool,
}

impl Kubelet {
    /// A kubelet without pods yet.
    pub(crate) fn new(namespace: &str, image: Image) -> Self {
        Self { namespace: namespace.to_owned(), image, running: BTreeMap::new(), started: 0 }
    }

    /// The running pod called `name`.
    pub(crate) fn pod(&self, name: &str) -> &Pod {
        &self.running[name].pod
    }

    /// The names of the pods that are ready and not about to end.
    pub(crate) fn ready(&self) -> Vec<String> {
        let ready = self.running.iter().filter(|(_, it)| it.ready && !it.ending);
        ready.map(|(name, _)| name.clone()).collect()
    }

    /// How many pods run, ready or not.
    pub(crate) fn count(&self) -> usize {
        self.running.len()
    }

    /// Does what kubelets do until `done`.
    pub(crate) fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        wait_for(Duration::from_secs(120), || {
            self.sync();
            let is = done(self);
            if !is {
                thread::sleep(Duration::from_millis(50));
            }
            is
        })
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    }

    fn path(&self, name: &str) -> String {
        format!("/api/v1/namespaces/{}/pods/{name}", self.namespace)
    }

    fn sync(&mut self) {
        let list = cluster().api().get(&format!("/api/v1/namespaces/{}/pods", self.namespace)).unwrap();
        let objects = list["items"].as_array().unwrap();
        let name = |object: &Value| object["metadata"]["name"].as_str().unwrap().to_owned();
        let (ending, staying): (Vec<_>, Vec<_>) =
            objects.iter().partition(|object| object["metadata"]["deletionTimestamp"].is_string());
        for object in &staying {
            match self.running.contains_key(&name(object)) {
                false => self.start(&name(object), object),
                true => self.probe(&name(object), object),
            }
        }
        let others = staying.iter().any(|object| self.running[&name(object)].ready);
        for object in ending {
            self.end(&name(object), object, others);
        }
    }

    /// Binds a pod to a machine and starts its container.
    fn start(&mut self, name: &str, object: &Value) {
        let node = self.started % cluster().nodes().len();
        self.started += 1;
        let machine = &cluster().nodes()[node];
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": machine.name()},
        });
        cluster().api().post(&format!("{}/binding", self.path(name)), &binding).unwrap();
        let pod = machine.pod(&format!("{}-{name}", self.namespace)).unwrap();
        let child = self.run(&pod, name, object).spawn().unwrap();
        let running = Running { pod, node, child, ready: false, ending: false };
        self.report(name, &running);
        self.running.insert(name.to_owned(), running);
    }

    /// The container's command in a mount namespace of its own.
    fn run(&self, pod: &Pod, name: &str, object: &Value) -> Command {
        let container = &object["spec"]["containers"][0];
        let words = ["command", "args"]
            .into_iter()
            .flat_map(|key| container[key].as_array().cloned().unwrap_or_default());
        let words: Vec<_> = words.map(|word| word.as_str().unwrap().to_owned()).collect();
        let image = container["image"].as_str().unwrap();
        let home = Home::new(pod);
        let (program, mut words) = match image.split(':').next() {
            Some("coredns/coredns") => ((self.image)("coredns"), words),
            _ => ((self.image)(&words[0]), words[1..].to_vec()),
        };
        for mount in container["volumeMounts"].as_array().into_iter().flatten() {
            let volume = object["spec"]["volumes"]
                .as_array()
                .unwrap()
                .iter()
                .find(|it| it["name"] == mount["name"])
                .unwrap();
            if let Some(map) = volume["configMap"]["name"].as_str() {
                let folder = home.config(&self.namespace, map);
                let inside = mount["mountPath"].as_str().unwrap();
                for word in &mut words {
                    *word = word.replace(inside, &folder);
                }
            }
        }
        home.account(&self.namespace, object["spec"]["serviceAccountName"].as_str().unwrap());
        home.resolver(&self.namespace, &DNS, "");
        let log = File::create(pod.lab().dir().join(format!("{name}.log"))).unwrap();
        let mut command = home.command(pod, program);
        command.args(words);
        command
            .current_dir(xtask::sh::root().join("examples/tutorial/cluster"))
            .env("PYTHONDONTWRITEBYTECODE", "1");
        for variable in container["env"].as_array().into_iter().flatten() {
            // The one field that manifests of the tutorial refer to is the pod's name.
            command.env(variable["name"].as_str().unwrap(), variable["value"].as_str().unwrap_or(name));
        }
        command.env("KUBERNETES_SERVICE_HOST", "10.96.0.1").env("KUBERNETES_SERVICE_PORT", "443");
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        command
    }

    fn report(&self, name: &str, running: &Running) {
        let node = &cluster().nodes()[running.node];
        let status = objects::pod_status(&running.pod.ips(), &node.ips(), running.ready);
        cluster().api().merge(&format!("{}/status", self.path(name)), &status).unwrap();
    }

    /// Asks the readiness probe, and says so if its answer is another one.
    fn probe(&mut self, name: &str, object: &Value) {
        let mut running = self.running.remove(name).unwrap();
        let container = &object["spec"]["containers"][0];
        let probe = &container["readinessProbe"]["httpGet"];
        let port = probe["port"].as_u64().or_else(|| {
            let mut ports = container["ports"].as_array()?.iter();
            ports.find(|port| port["name"] == probe["port"])?["containerPort"].as_u64()
        });
        let to = SocketAddr::new(running.pod.ips()[0], u16::try_from(port.unwrap()).unwrap());
        let url = format!("http://{to}{}", probe["path"].as_str().unwrap());
        let mut curl = cluster().nodes()[running.node].host().command("curl");
        curl.args(["-q", "-s", "-f", "-o", "/dev/null", "-m", "5", &url]).stdin(Stdio::null());
        let ready = curl.status().unwrap().success();
        if ready != running.ready {
            running.ready = ready;
            self.report(name, &running);
        }
        self.running.insert(name.to_owned(), running);
    }

    /// Ends a pod: first what its preStop hook waits for, then SIGTERM, and when the container has ended the object goes.
    /// `others`: there are ready pods that stay.
    fn end(&mut self, name: &str, object: &Value, others: bool) {
        let Some(running) = self.running.get_mut(name) else { return };
        if !running.ending {
            let waits = object["spec"]["containers"][0]["lifecycle"]["preStop"].is_object();
            // The hook sleeps for as long as the nodes need to hear of it. Here it is known when they have; but the last
            // ones are chosen until they are gone.
            if waits && others && is_chosen(&running.pod) {
                return;
            }
            kill_process(Pid::from_child(&running.child), Signal::TERM).unwrap();
            running.ending = true;
        }
        if running.child.try_wait().unwrap().is_some() {
            cluster().api().delete(&self.path(name)).unwrap();
            self.running.remove(name);
        }
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        for running in self.running.values_mut() {
            // It may have ended already.
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }
}

/// Whether any machine may choose `pod` for a new connection.
fn is_chosen(pod: &Pod) -> bool {
    let knows = |node: &xtask::lab::Machine, ip: String| {
        let shown = node.sluice_json(&["backend", "show", &ip]).unwrap_or_default();
        shown.as_array().into_iter().flatten().any(|backend| backend["selected"] == true)
    };
    cluster().nodes().iter().any(|node| pod.ips().iter().any(|ip| knows(node, ip.to_string())))
}

/// The files that are a pod's own: it finds them in /run.
pub(crate) struct Home(PathBuf);

impl Home {
    pub(crate) fn new(pod: &Pod) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let home = pod.lab().dir().join(format!("home-{}-{number}", pod.netns()));
        fs::create_dir_all(&home).unwrap();
        Self(home)
    }

    /// Writes the files of a ConfigMap; gives the folder in which the pod finds them.
    fn config(&self, namespace: &str, name: &str) -> String {
        let map = cluster().api().get(&format!("/api/v1/namespaces/{namespace}/configmaps/{name}")).unwrap();
        let folder = self.0.join("config").join(name);
        fs::create_dir_all(&folder).unwrap();
        for (file, text) in map["data"].as_object().into_iter().flatten() {
            fs::write(folder.join(file), text.as_str().unwrap()).unwrap();
        }
        format!("/run/config/{name}")
    }

    /// Writes the token of a ServiceAccount, and whom it may be shown to.
    fn account(&self, namespace: &str, name: &str) {
        let folder = self.0.join("secrets/kubernetes.io/serviceaccount");
        fs::create_dir_all(&folder).unwrap();
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
        let token = cluster().api().post(&path, &request).unwrap();
        fs::write(folder.join("token"), token["status"]["token"].as_str().unwrap()).unwrap();
        let path = format!("/api/v1/namespaces/{namespace}/configmaps/kube-root-ca.crt");
        let authority = cluster().api().get(&path).unwrap();
        fs::write(folder.join("ca.crt"), authority["data"]["ca.crt"].as_str().unwrap()).unwrap();
    }

    /// Writes what a kubelet writes into `resolv.conf`, for a pod of `namespace`.
    pub(crate) fn resolver(&self, namespace: &str, servers: &[&str], options: &str) {
        let servers: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
        let search = format!("search {namespace}.svc.cluster.local svc.cluster.local cluster.local\n");
        fs::write(self.0.join("resolv.conf"), format!("{search}{servers}options ndots:5 {options}\n"))
            .unwrap();
    }

    /// A command that runs `program` in the pod with these files.
    pub(crate) fn command(&self, pod: &Pod, program: impl AsRef<std::ffi::OsStr>) -> Command {
        // Where the machine's own resolv.conf is in /run, it is not there any more.
        const ENTER: &str = "mount --bind \"$1\" /run && file=$(readlink -m /etc/resolv.conf) && \
                             mkdir -p \"${file%/*}\" && { [ -e \"$file\" ] || : > \"$file\"; } && \
                             mount --bind /run/resolv.conf \"$file\" && shift && exec \"$@\"";
        let mut command = pod.command("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-c", ENTER, "sh"])
            .arg(&self.0)
            .arg(program);
        command
    }
}
