//! Those who may talk to a control plane, and what they have to show for it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::control_plane::text;
use super::pki::{Pair, User};
use super::{ControlPlane, Tool};
use crate::sh;

impl ControlPlane {
    /// The kubeconfig of somebody who may do everything, for use outside of the namespaces.
    #[must_use]
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.kubeconfig_file("admin")
    }

    /// A kubeconfig for use on nodes, that shows a client certificate of `user`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn kubeconfig(&self, user: User<'_>) -> Result<PathBuf> {
        let pair = self.pki.client(user)?;
        self.write_kubeconfig(&format!("node-{}", user.file_name()), &self.url(), &certificate(&pair))
    }

    /// A kubeconfig for use on nodes, that shows a token of the ServiceAccount `NAMESPACE/NAME`.
    ///
    /// # Errors
    /// When the API server does not give a token.
    pub fn account_kubeconfig(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let token = self.api().token(namespace, name, &json!({}))?;
        self.write_kubeconfig(&format!("account-{namespace}-{name}"), &self.url(), &json!({ "token": token }))
    }

    /// `kubectl ARGS` as one who may do everything; what it prints.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        let mut kubectl = Command::new(self.binaries().path(Tool::Kubectl)?);
        sh::read(self.as_administrator(&mut kubectl).args(args))
    }

    /// Has kubectl or Helm, if that is what `command` starts, talk to this API server as one who may do everything, and
    /// keep what it remembers of it here rather than in the home folder.
    pub fn as_administrator<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("KUBECONFIG", self.admin_kubeconfig()).env("KUBECACHEDIR", self.cache())
    }

    /// Where kubectl and Helm remember what the API server has.
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        self.dir().join("cache")
    }

    fn kubeconfig_file(&self, name: &str) -> PathBuf {
        self.dir().join(format!("{name}.kubeconfig"))
    }

    pub(super) fn write_kubeconfig(&self, name: &str, server: &str, user: &Value) -> Result<PathBuf> {
        let path = self.kubeconfig_file(name);
        let all = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{
                "name": "sluice",
                "cluster": { "server": server, "certificate-authority": text(&self.pki.authority()) },
            }],
            "users": [{ "name": "user", "user": user }],
            "contexts": [{ "name": "sluice", "context": { "cluster": "sluice", "user": "user" } }],
            "current-context": "sluice",
        });
        fs::write(&path, serde_json::to_string_pretty(&all)?)
            .with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }
}

/// A user of a kubeconfig who shows a client certificate.
pub(super) fn certificate(pair: &Pair) -> Value {
    json!({ "client-certificate": text(&pair.certificate), "client-key": text(&pair.key) })
}
