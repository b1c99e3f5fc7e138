//! The client of a server: how it is reached, through a proxy too, and how silence is noticed.

use std::env;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use http::{Method, Request, StatusCode, Uri};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::client::{Body, ConfigExt as _};
use kube::config::Config;
use tokio::net::TcpStream;
use tower::{BoxError, Service, ServiceBuilder, service_fn};

use super::access::{AccessError, url};
use crate::http::Requests;

/// How long a connection may take to come about.
pub(super) const CONNECT: Duration = Duration::from_secs(10);
/// A connection without an answer for so long is probed, so often, so many times: a server that is gone without a word
/// is noticed after 30 s.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(15), Duration::from_secs(5), 3);

/// A client for the server of `config`, through the proxy `named` if the kubeconfig names one, else through that of the
/// environment. What is asked is counted in `requests`.
///
/// # Errors
/// The credentials cannot be used, or the proxy is of a kind that is not known.
pub(super) fn client(
    config: &Config,
    named: Option<&str>,
    requests: &Requests,
) -> Result<kube::Client, AccessError> {
    let made = match proxy(&config.cluster_url, named)? {
        None => through(config, tcp(), requests),
        Some(proxy) => match proxy.uri().scheme_str() {
            Some("http") => {
                let tunnel = Tunnel::new(proxy.uri().clone(), tcp());
                let tunnel = match proxy.basic_auth() {
                    Some(auth) => tunnel.with_auth(auth.clone()),
                    None => tunnel,
                };
                through(config, tunnel, requests)
            }
            Some("socks5" | "socks5h") => {
                let socks = SocksV5::new(proxy.uri().clone(), tcp());
                let socks = match proxy.raw_auth() {
                    Some((user, password)) => socks.with_auth(user.to_owned(), password.to_owned()),
                    None => socks,
                };
                through(config, socks, requests)
            }
            _ => return Err(AccessError::Proxy(proxy.uri().to_string())),
        },
    };
    made.map_err(|reason| AccessError::Credentials { server: url(config), reason })
}

/// Which proxy leads to `server`.
fn proxy(server: &Uri, named: Option<&str>) -> Result<Option<Intercept>, AccessError> {
    let Some(named) = named else { return Ok(of_environment(server, |name| env::var(name).ok())) };
    let found = Matcher::builder().all(named).build().intercept(server);
    found.map(Some).ok_or_else(|| AccessError::Proxy(named.to_owned()))
}

/// The one that `variable`s of the environment name, by client-go's rules.
fn of_environment(server: &Uri, variable: impl Fn(&str) -> Option<String>) -> Option<Intercept> {
    let host = server.host()?.trim_matches(['[', ']']);
    if host == "localhost" || host.parse().is_ok_and(|addr: IpAddr| addr.is_loopback()) {
        return None;
    }
    let first = |names: [&str; 2]| names.into_iter().find_map(&variable).unwrap_or_default();
    let matcher = Matcher::builder()
        .http(first(["HTTP_PROXY", "http_proxy"]))
        .https(first(["HTTPS_PROXY", "https_proxy"]))
        .no(first(["NO_PROXY", "no_proxy"]));
    matcher.build().intercept(server)
}

fn tcp() -> HttpConnector {
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
    tcp
}

/// A request, which counts when it is over: who waits no longer for an answer drops it.
struct Asked {
    requests: Requests,
    method: Method,
    host: String,
    began: Instant,
    /// `None`: it has not been answered.
    status: Option<StatusCode>,
}

impl Asked {
    fn end(mut self, status: Option<StatusCode>) {
        self.status = status;
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.requests.note(&self.method, &self.host, self.status, self.began.elapsed());
    }
}

/// The client that kube would make, but without retries of its own.
fn through<C>(config: &Config, connector: C, requests: &Requests) -> kube::Result<kube::Client>
where
    C: Service<Uri, Response = TokioIo<TcpStream>, Error: Into<BoxError>, Future: Send + 'static>
        + Clone
        + Send
        + Sync
        + 'static,
{
    let https = config.rustls_https_connector_with_connector(connector)?;
    let http = HttpClient::builder(TokioExecutor::new()).build(https);
    let requests = requests.clone();
    let counted = service_fn(move |request: Request<Body>| {
        let asked = Asked {
            requests: requests.clone(),
            method: request.method().clone(),
            host: request.uri().authority().map(ToString::to_string).unwrap_or_default(),
            began: Instant::now(),
            status: None,
        };
        let answer = http.request(request);
        async move {
            let answer = answer.await;
            asked.end(answer.as_ref().ok().map(http::Response::status));
            answer
        }
    });
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(counted);
    Ok(kube::Client::new(service, config.default_namespace.clone()))
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn a_proxy_of_the_environment_is_used_as_client_go_does() {
        const PROXY: (&str, &str) = ("https_proxy", "http://user:word@proxy:3128");
        for (server, environment, expected) in [
            ("https://192.0.2.1:6443", &[][..], None),
            ("https://192.0.2.1:6443", &[PROXY], Some("http://proxy:3128/")),
            ("https://192.0.2.1:6443", &[PROXY, ("HTTPS_PROXY", "other:1")], Some("http://other:1/")),
            ("https://192.0.2.1:6443", &[PROXY, ("NO_PROXY", "10.0.0.0/8,192.0.2.0/24")], None),
            ("https://api.example.com", &[PROXY, ("no_proxy", ".example.com")], None),
            ("https://[2001:db8::1]", &[PROXY, ("NO_PROXY", "2001:db8::/32")], None),
            ("http://192.0.2.1", &[PROXY], None),
            ("https://127.0.0.1:6443", &[PROXY], None),
            ("https://[::1]:6443", &[PROXY], None),
            ("https://localhost:6443", &[PROXY], None),
        ] {
            let variable = |name: &str| {
                let found = environment.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            let found = of_environment(&server.parse().unwrap(), variable);
            assert_eq!(found.map(|it| it.uri().to_string()).as_deref(), expected, "{server} {environment:?}");
        }
    }

    #[tokio::test]
    async fn a_request_that_nobody_waits_for_any_more_counts_as_failed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let requests = Requests::new().unwrap();
        let client = client(&Config::new(server.parse().unwrap()), None, &requests).unwrap();
        let request = Request::get("/api").body(Body::empty()).unwrap();
        tokio::select! {
            answer = client.send(request) => panic!("{:?}", answer.map(|it| it.status())),
            silent = async {
                // It has been asked by the time that there is something to read.
                let (stream, _) = listener.accept().await.unwrap();
                stream.readable().await.map(|()| stream)
            } => drop(silent.unwrap()),
        }
        let text = TextEncoder::new().encode_to_string(&requests.collect()).unwrap();
        assert!(text.contains(r#"rest_client_requests_total{code="<error>""#), "{text}");
        assert!(text.contains("rest_client_request_duration_seconds_count{"), "{text}");
    }

    #[test]
    fn a_proxy_that_is_none_is_an_error() {
        let server = "https://192.0.2.1".parse().unwrap();
        assert!(matches!(proxy(&server, Some("::")), Err(AccessError::Proxy(text)) if text == "::"));
        let config = Config::new(server);
        let made = client(&config, Some("https://proxy"), &Requests::new().unwrap());
        assert!(matches!(made, Err(AccessError::Proxy(text)) if text == "https://proxy/"));
    }
}
