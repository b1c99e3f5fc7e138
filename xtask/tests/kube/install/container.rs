//! What a kubelet and a container engine make of the object of a pod, without either: the files of the image as a root
//! that cannot be written to, the pod's volumes, environment, arguments and capabilities, namespaces as it asks for.
//!
//! The machine's `/sys/fs/bpf` is its pin directory, its cgroup tree the part below its control group.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use xtask::image::{BINARY, Contents};
use xtask::kube::Api;
use xtask::kube::kubelet::files;
use xtask::lab::helper::container::{Container, Mount};
use xtask::lab::{Machine, Owned, binary, wait_for};
use xtask::sh;

use crate::support::{SOON, lab};

/// A pod's only container, running. Killed on drop.
pub(crate) struct Running {
    unshare: Owned,
    /// The program, in the machine's pid namespace.
    pid: u32,
    log: PathBuf,
}

impl Running {
    /// Starts the container of `pod`, an object of the API server, on `machine`.
    pub(crate) fn start(machine: &Machine, api: &Api, pod: &Value) -> Self {
        let kubelet = Kubelet { machine, api, pod, dir: folder(machine) };
        let log = kubelet.dir.join("log");
        let mut command = machine.host().command("unshare");
        command
            // Of the namespaces that containers have, those that this pod does not share with its node.
            .args([
                "--mount",
                "--propagation",
                "unchanged",
                "--pid",
                "--fork",
                "--kill-child",
                "--cgroup",
                "--ipc",
            ])
            .args(["--", env!("CARGO_BIN_EXE_xtask"), "lab-helper", "container"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap());
        let mut unshare = Owned::start(&mut command).unwrap();
        let text = serde_json::to_vec(&kubelet.container()).unwrap();
        unshare.stdin.take().unwrap().write_all(&text).unwrap();
        let mut running = Self { unshare, pid: 0, log };
        wait_for(SOON, || running.find()).unwrap_or_else(|error| panic!("{error}\n{}", running.log()));
        running
    }

    /// Looks for the program; whether there is an answer.
    fn find(&mut self) -> bool {
        let children = format!("/proc/{0}/task/{0}/children", self.unshare.id());
        let children = fs::read_to_string(children).unwrap_or_default();
        let Ok(pid) = children.trim().parse() else { return self.unshare.try_wait().unwrap().is_some() };
        let is_it = fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with(BINARY));
        if is_it {
            self.pid = pid;
        }
        is_it
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What `sluice ARGS -j` says inside, as `kubectl exec` would run it; `None` if it fails.
    pub(crate) fn exec(&self, args: &[&str]) -> Option<Value> {
        let mut nsenter = Command::new("nsenter");
        nsenter
            .args(["--all", "--target", &self.pid.to_string(), "--", &format!("/{BINARY}"), "-j"])
            .args(args);
        serde_json::from_str(&sh::read(&mut nsenter).ok()?).ok()
    }

    /// The capabilities that it has, as the kernel writes them.
    pub(crate) fn capabilities(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("CapPrm:")).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    }

    /// SIGTERM, and the log once it has ended with success.
    pub(crate) fn stop(mut self) -> String {
        kill_process(Pid::from_raw(self.pid.cast_signed()).unwrap(), Signal::TERM).unwrap();
        self.end()
    }

    /// Waits until it has ended with success, and gives its log.
    pub(crate) fn end(&mut self) -> String {
        let mut status = None;
        let ended = wait_for(SOON, || {
            status = self.unshare.try_wait().unwrap();
            status.is_some()
        });
        assert!(ended.is_ok() && status.unwrap().success(), "{status:?}\n{}", self.log());
        self.log()
    }
}

/// A folder of its own for each container of `machine`.
fn folder(machine: &Machine) -> PathBuf {
    let parent = lab().dir().join(format!("{}-containers", machine.name()));
    fs::create_dir_all(&parent).unwrap();
    let dir = parent.join(fs::read_dir(&parent).unwrap().count().to_string());
    fs::create_dir(&dir).unwrap();
    dir
}

struct Kubelet<'a> {
    machine: &'a Machine,
    api: &'a Api,
    pod: &'a Value,
    dir: PathBuf,
}

impl Kubelet<'_> {
    fn container(&self) -> Container {
        let (spec, container) = (&self.pod["spec"], &self.pod["spec"]["containers"][0]);
        assert_eq!((&spec["hostNetwork"], spec.get("hostPID")), (&true.into(), None));
        let root = self.dir.join("root");
        Contents::of(&binary()).unwrap().write(&root).unwrap();
        let env = self.environment(container);
        let arguments = list(&container["args"]).map(|text| {
            let named =
                |text: String, (name, value): (&String, &String)| text.replace(&format!("$({name})"), value);
            env.iter().fold(string(text), named)
        });
        let security = &container["securityContext"];
        let capabilities = (security["privileged"] != true).then(|| {
            assert_eq!(security["capabilities"]["drop"], json!(["ALL"]));
            list(&security["capabilities"]["add"]).map(string).collect()
        });
        Container {
            root,
            read_only: security["readOnlyRootFilesystem"] == true,
            mounts: self.mounts(container),
            capabilities,
            command: [format!("/{BINARY}")].into_iter().chain(arguments).collect(),
            env: env.into_iter().collect(),
        }
    }

    fn mounts(&self, container: &Value) -> Vec<Mount> {
        let volumes: BTreeMap<_, _> = list(&self.pod["spec"]["volumes"])
            .map(|volume| (string(&volume["name"]), self.volume(volume)))
            .collect();
        let of_pod = list(&container["volumeMounts"]).map(|mount| Mount {
            from: volumes[&string(&mount["name"])].clone(),
            to: string(&mount["mountPath"]).into(),
            read_only: mount["readOnly"] == true,
            bidirectional: mount["mountPropagation"] == "Bidirectional",
        });
        // A kubelet gives those to every container.
        let hosts = self.dir.join("hosts");
        fs::write(&hosts, "127.0.0.1 localhost\n172.18.0.10 kubernetes\n").unwrap();
        let own = Mount { from: hosts, to: "/etc/hosts".into(), read_only: false, bidirectional: false };
        of_pod.chain([own]).collect()
    }

    /// Where the contents of a volume are.
    fn volume(&self, volume: &Value) -> PathBuf {
        let dir = self.dir.join("volumes").join(string(&volume["name"]));
        if let Some(path) = volume["hostPath"]["path"].as_str() {
            let place = match path {
                "/sys/fs/bpf" => self.machine.pin_dir().to_owned(),
                "/sys/fs/cgroup" => self.machine.cgroup().to_owned(),
                other => lab().dir().join(format!("{}-root", self.machine.name())).join(&other[1..]),
            };
            match volume["hostPath"]["type"].as_str() {
                Some("Directory") if path == "/sys/fs/bpf" => fs::create_dir_all(&place).unwrap(),
                Some("DirectoryOrCreate") => fs::create_dir_all(&place).unwrap(),
                kind => assert_eq!(kind, Some("Directory"), "{path}"),
            }
            assert!(place.is_dir(), "{path}");
            return place;
        }
        files::volume(self.api, self.pod, volume, &dir).unwrap();
        dir
    }

    /// The variables of the image, of the Service `kubernetes`, and of the pod, the last of which win.
    fn environment(&self, container: &Value) -> BTreeMap<String, String> {
        let of_others = [
            ("PATH", "/usr/bin"),
            ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
            ("KUBERNETES_SERVICE_PORT", "443"),
            ("KUBERNETES_PORT_443_TCP_ADDR", "10.96.0.1"),
        ];
        let of_others = of_others.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let own = list(&container["env"]).map(|variable| {
            let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
                Some("spec.nodeName") => &self.pod["spec"]["nodeName"],
                None => &variable["value"],
                Some(other) => panic!("a kubelet knows {other}, this one does not"),
            };
            (string(&variable["name"]), string(value))
        });
        of_others.into_iter().chain(own).collect()
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}
