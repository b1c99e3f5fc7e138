//! Which API server is asked, and by which credentials.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;
use std::{env, fmt, io};

use futures::FutureExt as _;
use kube::config::{Config, InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use thiserror::Error;
use tokio::net::lookup_host;
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::client::{CONNECT, client};
use crate::http::Requests;

/// How long credentials may take; a plug-in that makes them asks other servers.
const CREDENTIALS: Duration = Duration::from_secs(60);
/// Why there is no way to an API server.
#[derive(Debug, Error)]
pub enum AccessError {
    /// `--master` is no URL.
    #[error("--master {0:?} is no URL of an API server, such as https://192.0.2.1:6443")]
    Master(String),
    /// The kubeconfig cannot be used.
    #[error("kubeconfig {}: {reason}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: KubeconfigError,
    },
    /// No source was named, and this is not a pod with a service account.
    #[error(
        "no source: name a folder by --manifests, or an API server by --kubeconfig or --master; only a pod with a \
         service account needs none of them ({0})"
    )]
    Cluster(InClusterError),
    /// The credentials cannot be used.
    #[error("credentials for {server}: {reason}")]
    Credentials {
        /// URL of the server.
        server: String,
        /// What is wrong with them.
        reason: kube::Error,
    },
    /// The proxy is none, or of a kind that is not known.
    #[error("proxy {0:?} for the API server: http://HOST:PORT and socks5://HOST:PORT are known")]
    Proxy(String),
    /// The credentials are not there yet.
    #[error("credentials for the API server are not there after {} s", CREDENTIALS.as_secs())]
    Slow,
    /// The process has no room for a thread.
    #[error("a thread for the API server: {0}")]
    Thread(io::Error),
    /// Requests cannot be counted: never.
    #[error(transparent)]
    Requests(#[from] prometheus::Error),
}

/// The way to an API server: what the flags say. Files are read again for each [`Access::connect`].
#[derive(Clone, Debug)]
pub struct Access {
    kubeconfig: Option<PathBuf>,
    master: Option<String>,
    url: String,
    requests: Requests,
}

/// The server that a client is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    /// Its URL, without a slash at the end.
    pub url: String,
    /// Its addresses; none if its name could not be resolved.
    pub addresses: Vec<IpAddr>,
    /// Whether its address is known to be the ClusterIP of Service `kubernetes` (B117).
    pub is_service: bool,
}

impl Access {
    /// The way that `--kubeconfig` and `--master` name. Without both it is the one of a pod; with `--master` alone, that
    /// server by the credentials of the pod, or by none outside of pods.
    ///
    /// # Errors
    /// There is no such way now: what a flag or file says cannot be used.
    pub fn new(kubeconfig: Option<PathBuf>, master: Option<String>) -> Result<Self, AccessError> {
        let mut access = Self { kubeconfig, master, url: String::new(), requests: Requests::new()? };
        access.url = url(&access.config()?.0);
        Ok(access)
    }

    /// What is asked of the server, by all clients that this way leads to.
    #[must_use]
    pub const fn requests(&self) -> &Requests {
        &self.requests
    }

    /// The settings, and the proxy that the kubeconfig names.
    fn config(&self) -> Result<(Config, Option<String>), AccessError> {
        let mut proxy = None;
        let mut config = match (&self.kubeconfig, &self.master) {
            (Some(path), _) => {
                let refused = |reason| AccessError::Kubeconfig { path: path.clone(), reason };
                let file = Kubeconfig::read_from(path).map_err(refused)?;
                proxy = proxy_url(&file);
                let options = KubeConfigOptions::default();
                // It never waits for anything.
                let read = Config::from_custom_kubeconfig(file, &options).now_or_never();
                read.ok_or(AccessError::Slow)?.map_err(refused)?
            }
            (None, None) => Config::incluster_env().map_err(AccessError::Cluster)?,
            // The same but for the address, which is set below.
            (None, Some(_)) => Config::incluster_dns().unwrap_or_else(|_| Config::new(Default::default())),
        };
        if let Some(master) = &self.master {
            let url = master.parse().ok().filter(|_| master.contains("://"));
            config.cluster_url = url.ok_or_else(|| AccessError::Master(master.clone()))?;
        }
        Ok((config, proxy))
    }
}

/// The URL of the server, as it was at the beginning.
impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

/// Makes clients, one at a time: a plug-in that hangs is waited for, rather than started once more.
pub struct Connector {
    access: Access,
    attempt: Option<JoinHandle<Result<(kube::Client, Server), AccessError>>>,
}

impl Connector {
    /// Makes clients for the server of `access`.
    #[must_use]
    pub const fn new(access: Access) -> Self {
        Self { access, attempt: None }
    }

    /// A client for the server, with credentials as the files have them now. It works on the runtime that it is made on.
    /// Given up midway, the attempt is what the next call waits for.
    ///
    /// # Errors
    /// A file or a credential plug-in does not give what is needed.
    pub async fn connect(&mut self) -> Result<(kube::Client, Server), AccessError> {
        let access = &self.access;
        let attempt = self.attempt.get_or_insert_with(|| {
            let access = access.clone();
            // Plug-ins for credentials are processes that are waited for.
            spawn_blocking(move || {
                let (config, proxy) = access.config()?;
                let client = client(&config, proxy.as_deref(), &access.requests)?;
                Ok((client, Handle::current().block_on(server(&config))))
            })
        });
        let made = timeout(CREDENTIALS, attempt).await.map_err(|_| AccessError::Slow)?;
        self.attempt = None;
        made.unwrap_or_else(|error| Err(AccessError::Thread(error.into())))
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("access", &self.access).finish_non_exhaustive()
    }
}

/// The proxy that the cluster of the current context has. kube's own configuration does not tell it from the
/// environment's, from which servers may be excepted.
fn proxy_url(file: &Kubeconfig) -> Option<String> {
    let context = file.contexts.iter().find(|it| Some(&it.name) == file.current_context.as_ref())?;
    let name = &context.context.as_ref()?.cluster;
    let cluster = file.clusters.iter().find(|it| it.name == *name)?.cluster.as_ref()?;
    cluster.proxy_url.clone().filter(|url| !url.is_empty())
}

pub(super) fn url(config: &Config) -> String {
    config.cluster_url.to_string().trim_end_matches('/').to_owned()
}

async fn server(config: &Config) -> Server {
    let host = config.cluster_url.host().unwrap_or_default().trim_matches(['[', ']']);
    // The name resolves late or not at all while the node starts: it is asked for at each connection.
    let found = timeout(CONNECT, lookup_host((host, 0))).await;
    let addresses =
        found.ok().and_then(Result::ok).map(|found| found.map(|found| found.ip().to_canonical()).collect());
    // The kubelet names the ClusterIP of `kubernetes` in each container, also where KUBERNETES_SERVICE_HOST is overridden.
    let cluster_ip = env::var("KUBERNETES_PORT_443_TCP_ADDR").ok().and_then(|text| text.parse().ok());
    let addresses: Vec<IpAddr> = addresses.unwrap_or_default();
    let is_service = cluster_ip.is_some_and(|cluster_ip: IpAddr| addresses.contains(&cluster_ip));
    Server { url: url(config), addresses, is_service }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::json;
    use tempfile::TempDir;
    use tokio::time::sleep;

    use super::*;

    #[tokio::test]
    async fn a_plug_in_that_hangs_is_waited_for_and_not_started_again() {
        let dir = TempDir::new().unwrap();
        let (plugin, starts, go) =
            (dir.path().join("plugin"), dir.path().join("starts"), dir.path().join("go"));
        let credential = r#"{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","status":{"token":"t"}}"#;
        let script = format!(
            "#!/bin/sh\necho x >> {starts}\nwhile [ ! -e {go} ] && [ -d {dir} ]; do sleep 0.05; done\necho '{credential}'\n",
            starts = starts.display(),
            go = go.display(),
            dir = dir.path().display(),
        );
        fs::write(&plugin, script).unwrap();
        fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755)).unwrap();
        let exec = json!({"apiVersion": "client.authentication.k8s.io/v1", "command": plugin, "interactiveMode": "Never"});
        let file = dir.path().join("kubeconfig");
        let text = json!({
            "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
            "users": [{"name": "u", "user": {"exec": exec}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "c",
        });
        fs::write(&file, text.to_string()).unwrap();
        let mut connector = Connector::new(Access::new(Some(file), None).unwrap());
        for _ in 0..3 {
            assert!(timeout(Duration::from_millis(100), connector.connect()).await.is_err());
        }
        while fs::read_to_string(&starts).unwrap_or_default().is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(fs::read_to_string(&starts).unwrap(), "x\n");
        fs::write(&go, "").unwrap();
        let (_, server) = connector.connect().await.unwrap();
        assert_eq!(server.url, "http://127.0.0.1:1");
    }
}
