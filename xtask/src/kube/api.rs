//! A client of the API server for tests: objects as JSON, one call a request, connections kept.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use ureq::http::Request;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Body};

use super::pki::Pair;

/// How long the API server may take for an ordinary request.
const LIMIT: Duration = Duration::from_secs(30);

/// Who owns the fields that [`Api::apply`] sets.
const MANAGER: &str = "fieldManager=xtask&force=true";

/// Answers of the API server, as one user.
#[derive(Debug)]
pub struct Api {
    server: String,
    agent: Agent,
    kinds: Mutex<HashMap<String, Value>>,
}

impl Api {
    /// A client of `server` (`https://HOST:PORT`) that trusts `authority` and shows `user`.
    pub(super) fn new(server: String, authority: &Path, user: &Pair) -> Result<Self> {
        let read = |path: &Path| fs::read(path).with_context(|| format!("read {}", path.display()));
        let certificate = Certificate::from_pem(&read(&user.certificate)?)?;
        let key = PrivateKey::from_pem(&read(&user.key)?)?;
        let authority = Certificate::from_pem(&read(authority)?)?;
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(RootCerts::new_with_certs(&[authority]))
            .client_cert(Some(ClientCert::new_with_certs(&[certificate], key)))
            .build();
        let agent = Agent::config_builder().tls_config(tls).http_status_as_error(false).build().new_agent();
        Ok(Self { server, agent, kinds: Mutex::default() })
    }

    /// GET.
    ///
    /// # Errors
    /// What the API server says, with its status code.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.call("GET", path, None)
    }

    /// GET, as text: `/readyz`, `/metrics`, a list that is not to be read.
    ///
    /// # Errors
    /// As [`Api::get`].
    pub fn text(&self, path: &str) -> Result<String> {
        let mut body = self.send("GET", path, None, Some(LIMIT))?;
        body.with_config().limit(u64::MAX).read_to_string().with_context(|| format!("read {path}"))
    }

    /// POST.
    ///
    /// # Errors
    /// As [`Api::get`].
    pub fn post(&self, path: &str, object: &Value) -> Result<Value> {
        self.call("POST", path, Some(("application/json", object)))
    }

    /// A JSON merge patch: lists are replaced, null removes.
    ///
    /// # Errors
    /// As [`Api::get`].
    pub fn merge(&self, path: &str, patch: &Value) -> Result<Value> {
        self.call("PATCH", path, Some(("application/merge-patch+json", patch)))
    }

    /// Creates `object`, of any kind that the server knows, or makes its fields what they are here.
    ///
    /// # Errors
    /// As [`Api::get`].
    pub fn apply(&self, object: &Value) -> Result<Value> {
        let path = format!("{}?{MANAGER}", self.path(object)?);
        self.call("PATCH", &path, Some(("application/apply-patch+yaml", object)))
    }

    /// As [`Api::apply`], for the object's status, and the object is there.
    ///
    /// # Errors
    /// As [`Api::get`].
    pub fn apply_status(&self, object: &Value) -> Result<Value> {
        let path = format!("{}/status?{MANAGER}", self.path(object)?);
        self.call("PATCH", &path, Some(("application/apply-patch+yaml", object)))
    }

    /// Deletes what `path` names, at once and not gracefully.
    ///
    /// # Errors
    /// As [`Api::get`].
    pub fn delete(&self, path: &str) -> Result<Value> {
        let now = json!({ "kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0 });
        self.call("DELETE", path, Some(("application/json", &now)))
    }

    /// Deletes the pod that `path` names gracefully: until somebody deletes it at once it terminates, for `seconds`.
    ///
    /// # Errors
    /// As [`Api::get`].
    pub fn terminate(&self, path: &str, seconds: u32) -> Result<Value> {
        let options = json!({ "kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": seconds });
        self.call("DELETE", path, Some(("application/json", &options)))
    }

    /// A token of the ServiceAccount `NAMESPACE/NAME`, as `spec` of the request wants it.
    ///
    /// # Errors
    /// As [`Api::get`].
    pub fn token(&self, namespace: &str, name: &str, spec: &Value) -> Result<String> {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
        let kind = "TokenRequest";
        let request = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": kind, "spec": spec });
        let answer = self.post(&path, &request)?;
        answer["status"]["token"].as_str().map(str::to_owned).context("an answer without a token")
    }

    /// Hands each event of a watch (`path` has the query) to `each`, until that says `false` or the server ends it.
    ///
    /// # Errors
    /// As [`Api::get`], and when the connection breaks.
    pub fn watch(&self, path: &str, mut each: impl FnMut(Value) -> Result<bool>) -> Result<()> {
        let body = self.send("GET", path, None, None)?;
        for line in BufReader::new(body.into_reader()).lines() {
            let event = serde_json::from_str(&line.with_context(|| format!("watch {path}"))?)?;
            if !each(event)? {
                break;
            }
        }
        Ok(())
    }

    /// Where `object` is on the server.
    ///
    /// # Errors
    /// When it names no kind that the server knows, or has no name.
    pub fn path(&self, object: &Value) -> Result<String> {
        let field = |field: &Value| field.as_str().map(str::to_owned);
        let (version, kind) = (field(&object["apiVersion"]), field(&object["kind"]));
        let (version, kind) = version.zip(kind).context("an object without apiVersion and kind")?;
        let name = field(&object["metadata"]["name"]).with_context(|| format!("a {kind} without a name"))?;
        let group =
            if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
        let resource = self.resource(&group, &kind)?;
        let plural = resource["name"].as_str().unwrap_or_default();
        if resource["namespaced"] == true {
            let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
            return Ok(format!("{group}/namespaces/{namespace}/{plural}/{name}"));
        }
        Ok(format!("{group}/{plural}/{name}"))
    }

    fn resource(&self, group: &str, kind: &str) -> Result<Value> {
        let key = format!("{group} {kind}");
        let known = |kinds: &HashMap<String, Value>| kinds.get(&key).cloned();
        if let Some(found) = known(&self.kinds.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(found);
        }
        let list = self.get(group)?;
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        for resource in list["resources"].as_array().into_iter().flatten() {
            let (Some(kind), Some(name)) = (resource["kind"].as_str(), resource["name"].as_str()) else {
                continue;
            };
            if !name.contains('/') {
                kinds.insert(format!("{group} {kind}"), resource.clone());
            }
        }
        known(&kinds).with_context(|| format!("{group} has no kind {kind}"))
    }

    fn call(&self, method: &str, path: &str, content: Option<(&str, &Value)>) -> Result<Value> {
        let mut body = self.send(method, path, content, Some(LIMIT))?;
        body.with_config()
            .limit(u64::MAX)
            .read_json()
            .with_context(|| format!("read the answer to {method} {path}"))
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        content: Option<(&str, &Value)>,
        limit: Option<Duration>,
    ) -> Result<Body> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.server));
        let mut bytes = Vec::new();
        if let Some((kind, value)) = content {
            request = request.header("Content-Type", kind);
            bytes = serde_json::to_vec(value)?;
        }
        let request = self.agent.configure_request(request.body(bytes)?);
        let request = request.timeout_global(limit).allow_non_standard_methods(true).build();
        let response = self.agent.run(request).with_context(|| format!("{method} {path}"))?;
        let (status, mut body) = (response.status(), response.into_body());
        if !status.is_success() {
            let text = body.read_to_string().unwrap_or_default();
            let message = serde_json::from_str::<Value>(&text).ok();
            let message = message.as_ref().and_then(|it| it["message"].as_str()).unwrap_or(&text);
            bail!("{method} {path}: {status}: {message}");
        }
        Ok(body)
    }
}
