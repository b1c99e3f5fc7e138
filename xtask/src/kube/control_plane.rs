//! A control plane: its parts with their flags, and those who may talk to it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::forward::Forward;
use super::parts::Parts;
use super::pki::{ADMIN, Pair, Pki, User};
use super::users::certificate;
use super::{Api, Binaries, PATIENCE, Part, audit};
use crate::lab::{Lab, Network, Space, wait_for};

/// The port of the API server in its namespace.
const PORT: u16 = 6443;

/// Controllers that need no kubelet; what watches over nodes would mark those without one as unreachable.
const CONTROLLERS: &str = "endpoints-controller,endpointslice-controller,endpointslice-mirroring-controller,\
    namespace-controller,serviceaccount-controller,root-ca-certificate-publisher-controller,service-cidr-controller,\
    replicaset-controller,deployment-controller,daemonset-controller,garbage-collector-controller,\
    pod-garbage-collector-controller,clusterrole-aggregation-controller";

/// A control plane with RBAC and both families, in a namespace that is to be connected with those of nodes.
#[derive(Debug)]
pub struct ControlPlane {
    parts: Parts,
    _forward: Forward,
    api: Api,
    pub(super) pki: Pki,
    admin: Pair,
    binaries: Binaries,
    addresses: [IpAddr; 2],
    dir: PathBuf,
    space: Arc<Space>,
}

impl ControlPlane {
    /// Starts a control plane in a namespace `name` of its own and waits until it is ready. Nodes reach it under
    /// `addresses` (IPv4 first) once the caller has given them to an interface of [`ControlPlane::space`].
    ///
    /// # Errors
    /// When the name is taken in this run; with the end of a part's log when it does not start.
    pub fn start(lab: &Arc<Lab>, name: &str, binaries: &Binaries, addresses: [IpAddr; 2]) -> Result<Self> {
        let space = Arc::new(Space::new(lab, name, &lab.cgroup().join(name))?);
        let dir = lab.dir().join(name);
        let pki = Pki::make(&dir.join("pki"))?;
        let forward = Forward::start(&space, PORT)?;
        let server = format!("https://{}", forward.address());
        let admin = pki.client(ADMIN)?;
        let api = Api::new(server.clone(), &pki.authority(), &admin)?;
        let plane = Self {
            parts: Parts::default(),
            _forward: forward,
            api,
            pki,
            admin,
            binaries: binaries.clone(),
            addresses,
            dir,
            space,
        };
        plane.write_kubeconfig("admin", &server, &certificate(&plane.admin))?;
        plane.launch(Part::Etcd)?;
        plane.launch(Part::ApiServer)?;
        plane.wait_ready()?;
        plane.launch(Part::ControllerManager)?;
        Ok(plane)
    }

    /// The namespace that it runs in.
    #[must_use]
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// A client that may do everything.
    #[must_use]
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// Another client that may do everything, with connections of its own, for threads in namespaces that reach
    /// [`ControlPlane::url`].
    ///
    /// # Errors
    /// When a certificate or key cannot be read.
    pub fn client(&self) -> Result<Api> {
        Api::new(self.url(), &self.pki.authority(), &self.admin)
    }

    /// The programs that it has.
    #[must_use]
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// Where nodes reach the API server: `https://ADDRESS:6443`, IPv4.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", SocketAddr::new(self.addresses[0], PORT))
    }

    /// The certificate that API server and tokens are trusted by.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.pki.authority()
    }

    /// The folder of the parts' logs, keys and kubeconfigs.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes a namespace of Kubernetes and waits until pods can be made in it.
    ///
    /// # Errors
    /// When it is there, or the controllers do not give it its ServiceAccount.
    pub fn namespace(&self, name: &str) -> Result<()> {
        let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        self.api.post("/api/v1/namespaces", &object)?;
        let account = format!("/api/v1/namespaces/{name}/serviceaccounts/default");
        wait_for(PATIENCE, || self.api.get(&account).is_ok())
            .with_context(|| format!("the namespace {name} got no ServiceAccount"))
    }

    /// Creates or changes an object of any kind: [`Api::apply`].
    ///
    /// # Errors
    /// What the API server says.
    pub fn apply(&self, object: &Value) -> Result<Value> {
        self.api.apply(object)
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// When it is not running.
    pub fn kill(&self, part: Part) -> Result<()> {
        self.parts.kill(part)
    }

    /// SIGTERM, and waits for its end.
    ///
    /// # Errors
    /// When it is not running or does not end.
    pub fn stop(&self, part: Part) -> Result<()> {
        self.parts.stop(part)
    }

    /// SIGSTOP: it does nothing until [`ControlPlane::resume`].
    ///
    /// # Errors
    /// When it is not running.
    pub fn pause(&self, part: Part) -> Result<()> {
        self.parts.signal(part, Signal::STOP)
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// When it is not running.
    pub fn resume(&self, part: Part) -> Result<()> {
        self.parts.signal(part, Signal::CONT)
    }

    /// Starts a part, for the first time or again with what it had stored; [`ControlPlane::wait_ready`] waits for it.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn launch(&self, part: Part) -> Result<()> {
        let arguments = match part {
            Part::Etcd => self.etcd(),
            Part::ApiServer => self.api_server()?,
            Part::ControllerManager => self.controller_manager()?,
        };
        let mut command = self.space.command(self.binaries.path(part.tool())?);
        self.parts.start(part, command.args(arguments), &self.log_file(part))
    }

    /// Waits until the API server says that it is ready.
    ///
    /// # Errors
    /// With the end of its log, and when a part has ended.
    pub fn wait_ready(&self) -> Result<()> {
        let mut ended = None;
        let ready = wait_for(PATIENCE, || {
            ended = self.parts.ended();
            ended.is_some() || self.api.text("/readyz").is_ok_and(|text| text == "ok")
        });
        match ended {
            Some((part, status)) => bail!("{part:?} ended, {status}; its log ends:\n{}", self.log(part)),
            None => ready.with_context(|| {
                format!("the API server is not ready; its log ends:\n{}", self.log(Part::ApiServer))
            }),
        }
    }

    /// Where a part logs to.
    #[must_use]
    pub fn log_file(&self, part: Part) -> PathBuf {
        self.dir.join(format!("{}.log", part.tool().name()))
    }

    /// The requests of ServiceAccounts, in the form of `audit.k8s.io/v1`; the controllers' are left out.
    ///
    /// # Errors
    /// When there have been none.
    pub fn audited(&self) -> Result<Vec<Value>> {
        audit::read(&self.dir)
    }

    fn log(&self, part: Part) -> String {
        let text = fs::read_to_string(self.log_file(part)).unwrap_or_default();
        let lines: Vec<_> = text.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    fn etcd(&self) -> Vec<String> {
        let clients = "http://127.0.0.1:2379";
        let flags = [
            ("data-dir", self.dir.join("etcd").display().to_string()),
            ("listen-client-urls", clients.into()),
            ("advertise-client-urls", clients.into()),
            ("listen-peer-urls", "http://127.0.0.1:2380".into()),
            ("unsafe-no-fsync", "true".into()),
            ("log-level", "warn".into()),
        ];
        line(&flags)
    }

    fn api_server(&self) -> Result<Vec<String>> {
        let names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
        let first: [IpAddr; 2] =
            [Ipv4Addr::new(10, 96, 0, 1).into(), Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 1).into()];
        let [policy, records] = audit::prepare(&self.dir)?;
        let own = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let server = self.pki.server(&names, &[self.addresses, first, own].concat())?;
        let tokens = self.pki.token_pair();
        Ok(line(&[
            ("etcd-servers", "http://127.0.0.1:2379".into()),
            ("bind-address", "::".into()),
            ("secure-port", PORT.to_string()),
            ("advertise-address", self.addresses[0].to_string()),
            ("service-cluster-ip-range", Network::SERVICES.join(",")),
            ("authorization-mode", "RBAC".into()),
            ("client-ca-file", text(&self.pki.authority())),
            ("tls-cert-file", text(&server.certificate)),
            ("tls-private-key-file", text(&server.key)),
            ("service-account-issuer", "https://kubernetes.default.svc".into()),
            ("service-account-key-file", text(&tokens.certificate)),
            ("service-account-signing-key-file", text(&tokens.key)),
            ("allow-privileged", "true".into()),
            ("audit-policy-file", text(&policy)),
            ("audit-log-path", text(&records)),
        ]))
    }

    fn controller_manager(&self) -> Result<Vec<String>> {
        let user = self.pki.client(User { name: "system:kube-controller-manager", group: None })?;
        let server = format!("https://127.0.0.1:{PORT}");
        let kubeconfig = self.write_kubeconfig("controller-manager", &server, &certificate(&user))?;
        Ok(line(&[
            ("kubeconfig", text(&kubeconfig)),
            ("secure-port", "0".into()),
            ("leader-elect", "false".into()),
            ("use-service-account-credentials", "true".into()),
            ("service-account-private-key-file", text(&self.pki.token_pair().key)),
            ("root-ca-file", text(&self.pki.authority())),
            ("controllers", CONTROLLERS.into()),
            // Tests change more at once than a cluster's people do.
            ("kube-api-qps", "1000".into()),
            ("kube-api-burst", "2000".into()),
        ]))
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if self.space.lab().is_kept() {
            return;
        }
        self.parts.kill_all();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

pub(super) fn text(path: &Path) -> String {
    path.display().to_string()
}

fn line(flags: &[(&str, String)]) -> Vec<String> {
    flags.iter().map(|(name, value)| format!("--{name}={value}")).collect()
}
