//! Which API server is asked, and by which credentials.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;
use std::{env, fmt, io};

use futures::FutureExt as _;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::ConfigExt as _;
use kube::config::{Config, InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use thiserror::Error;
use tokio::net::lookup_host;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tower::{BoxError, ServiceBuilder};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// How long credentials may take; a plug-in that makes them asks other servers.
const CREDENTIALS: Duration = Duration::from_secs(60);
/// A connection without an answer for so long is probed, so often, so many times: a server that is gone without a word
/// is noticed after 30 s.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(15), Duration::from_secs(5), 3);

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
    /// The credentials are not there yet.
    #[error("credentials for the API server are not there after {} s", CREDENTIALS.as_secs())]
    Slow,
    /// The process has no room for a thread.
    #[error("a thread for the API server: {0}")]
    Thread(io::Error),
}

/// The way to an API server: what the flags say. Files are read again for each [`Access::connect`].
#[derive(Clone, Debug)]
pub struct Access {
    kubeconfig: Option<PathBuf>,
    master: Option<String>,
    url: String,
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
        let mut access = Self { kubeconfig, master, url: String::new() };
        access.url = url(&access.config()?);
        Ok(access)
    }

    /// A client for the server, with credentials as the files have them now. It works on the runtime that it is made on.
    ///
    /// # Errors
    /// A file or a credential plug-in does not give what is needed.
    pub async fn connect(&self) -> Result<(kube::Client, Server), AccessError> {
        let access = self.clone();
        // Plug-ins for credentials are processes that are waited for.
        let made = spawn_blocking(move || {
            let config = access.config()?;
            let client = client(&config)
                .map_err(|reason| AccessError::Credentials { server: url(&config), reason })?;
            Ok((client, Handle::current().block_on(server(&config))))
        });
        match timeout(CREDENTIALS, made).await {
            Ok(Ok(made)) => made,
            Ok(Err(error)) => Err(AccessError::Thread(error.into())),
            Err(_) => Err(AccessError::Slow),
        }
    }

    fn config(&self) -> Result<Config, AccessError> {
        let mut config = match (&self.kubeconfig, &self.master) {
            (Some(path), _) => {
                let refused = |reason| AccessError::Kubeconfig { path: path.clone(), reason };
                let file = Kubeconfig::read_from(path).map_err(refused)?;
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
        Ok(config)
    }
}

/// The URL of the server, as it was at the beginning.
impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

fn url(config: &Config) -> String {
    config.cluster_url.to_string().trim_end_matches('/').to_owned()
}

/// The client that kube would make, but with probes of silent connections and without retries of its own.
fn client(config: &Config) -> kube::Result<kube::Client> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    let (time, interval, retries) = KEEPALIVE;
    tcp.set_keepalive(Some(time));
    tcp.set_keepalive_interval(Some(interval));
    tcp.set_keepalive_retries(Some(retries));
    // Keepalive probes are not sent while a request waits for its acknowledgement.
    tcp.set_tcp_user_timeout(Some(time + interval * retries));
    let https = config.rustls_https_connector_with_connector(tcp)?;
    let http = HttpClient::builder(TokioExecutor::new()).build(https);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(kube::Client::new(service, config.default_namespace.clone()))
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
