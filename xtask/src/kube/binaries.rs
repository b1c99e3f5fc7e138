//! The programs of a cluster: those of this machine where they are new enough, else built once from their Go modules.
//!
//! Looked at in this order: `KUBEBUILDER_ASSETS`, the search path, the cache folder `~/.cache/sluice/kube`. What is
//! built is named as a dependency of `xtask/kube-tools`, one module for all: what they share is compiled once.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};

use super::go;
use crate::{setup, sh};

/// The versions that are built.
const MODULES: &str = include_str!("../../kube-tools/go.mod");

/// A program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tool {
    /// The store of the API server.
    Etcd,
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager.
    ControllerManager,
    /// kubectl.
    Kubectl,
    /// CoreDNS, with the plugins of a cluster's Corefile.
    CoreDns,
    /// Helm.
    Helm,
    /// The incumbent.
    KubeProxy,
}

use Tool::{ApiServer, ControllerManager, CoreDns, Etcd, Helm, KubeProxy, Kubectl};

/// What a control plane runs.
pub const CONTROL_PLANE: &[Tool] = &[Etcd, ApiServer, ControllerManager, Kubectl];

/// What tests run besides: name resolution, the chart, the incumbent to compare with.
pub const ALL: &[Tool] = &[Etcd, ApiServer, ControllerManager, Kubectl, CoreDns, Helm, KubeProxy];

impl Tool {
    /// The program's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Etcd => "etcd",
            ApiServer => "kube-apiserver",
            ControllerManager => "kube-controller-manager",
            Kubectl => "kubectl",
            CoreDns => "coredns",
            Helm => "helm",
            KubeProxy => "kube-proxy",
        }
    }

    /// The module that pins it, and its main package.
    const fn source(self) -> (&'static str, &'static str) {
        match self {
            Etcd => ("go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/server/v3"),
            ApiServer => ("k8s.io/kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver"),
            ControllerManager => ("k8s.io/kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager"),
            Kubectl => ("k8s.io/kubernetes", "k8s.io/kubernetes/cmd/kubectl"),
            CoreDns => ("github.com/coredns/coredns", "./coredns"),
            Helm => ("helm.sh/helm/v4", "helm.sh/helm/v4/cmd/helm"),
            KubeProxy => ("k8s.io/kubernetes", "k8s.io/kubernetes/cmd/kube-proxy"),
        }
    }

    /// What makes it tell its version.
    const fn ask(self) -> &'static [&'static str] {
        match self {
            Kubectl => &["version", "--client"],
            Helm => &["version", "--short"],
            CoreDns => &["-version"],
            Etcd | ApiServer | ControllerManager | KubeProxy => &["--version"],
        }
    }

    /// The pinned version, without its `v`.
    fn version(self) -> Result<&'static str> {
        let (module, _) = self.source();
        let mut words = MODULES.lines().map(|line| line.trim().trim_start_matches("require "));
        let version = words.find_map(|line| line.strip_prefix(module)?.strip_prefix(" v")?.split(' ').next());
        version.with_context(|| format!("xtask/kube-tools/go.mod does not require {module}"))
    }

    /// The program in the cache, whether it is there or not.
    fn cached(self) -> Result<PathBuf> {
        let set = match self {
            ApiServer | ControllerManager | Kubectl | KubeProxy => "kubernetes",
            Etcd | CoreDns | Helm => self.name(),
        };
        Ok(setup::cache("kube")?.join(format!("{set}-{}", self.version()?)).join(self.name()))
    }

    /// The program of this machine, if it is at least of the minor version that is pinned.
    fn installed(self) -> Result<Option<PathBuf>> {
        let assets = env::var_os("KUBEBUILDER_ASSETS").map(|folder| Path::new(&folder).join(self.name()));
        let wanted = super::version(self.version()?).context("a pinned version")?;
        let suits = |path: &PathBuf| {
            let said = sh::read(Command::new(path).args(self.ask())).ok();
            said.and_then(|text| super::version(&text)).is_some_and(|found| found >= wanted)
        };
        Ok(assets.filter(|path| path.is_file()).into_iter().chain(sh::find(self.name())).find(suits))
    }
}

/// Programs that are there.
#[derive(Clone, Debug)]
pub struct Binaries(BTreeMap<Tool, PathBuf>);

impl Binaries {
    /// Finds `tools`, and builds those that are not there: a quarter of an hour for all on two processors, once.
    ///
    /// # Errors
    /// Names the program that cannot be built, with what the compiler said.
    pub fn get(tools: &[Tool]) -> Result<Self> {
        if tools.contains(&KubeProxy) {
            setup::need(setup::INCUMBENT)?;
        }
        let mut found = BTreeMap::new();
        for &tool in tools {
            let cached = tool.cached()?;
            let path = match tool.installed()? {
                Some(installed) => installed,
                None if cached.is_file() => cached,
                None => build(tool, cached)?,
            };
            found.insert(tool, path);
        }
        Ok(Self(found))
    }

    /// The program `tool`.
    ///
    /// # Errors
    /// When it was not asked for.
    pub fn path(&self, tool: Tool) -> Result<&Path> {
        let path = self.0.get(&tool).with_context(|| format!("{} was not asked for", tool.name()))?;
        Ok(path)
    }

    /// The folders in which they are, for a search path.
    #[must_use]
    pub fn folders(&self) -> Vec<&Path> {
        let mut folders: Vec<_> = self.0.values().filter_map(|path| path.parent()).collect();
        folders.sort();
        folders.dedup();
        folders
    }
}

/// Builds `tool` and puts it to `path` as a whole. One build at a time per user: another one waits, and finds it done.
fn build(tool: Tool, path: PathBuf) -> Result<PathBuf> {
    let folder = setup::cache("kube")?;
    let lock = File::create(folder.join("lock")).context("open the lock of the cache folder")?;
    lock.lock().context("lock the cache folder")?;
    if path.is_file() {
        return Ok(path);
    }
    let (begun, version) = (Instant::now(), tool.version()?);
    sh::say(&format!("building {} {version} (once, up to some minutes)", tool.name()));
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    let fresh = path.with_extension("new");
    let mut go = go::command()?;
    go.current_dir(sh::root().join("xtask/kube-tools"))
        .args(["build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", &flags(tool)?])
        .arg("-o")
        .args([fresh.as_path(), Path::new(tool.source().1)]);
    sh::read(&mut go).with_context(|| format!("build {}", tool.name()))?;
    fs::rename(&fresh, &path).with_context(|| format!("make {}", path.display()))?;
    sh::say(&format!("built {} in {:.0} s", path.display(), begun.elapsed().as_secs_f32()));
    Ok(path)
}

/// For the linker: no debug information, and the version that programs of Kubernetes tell.
fn flags(tool: Tool) -> Result<String> {
    let mut flags = "-s -w".to_owned();
    if tool.source().0 == "k8s.io/kubernetes" {
        let version = tool.version()?;
        let (major, minor) = super::version(version).context("the version of Kubernetes")?;
        let told =
            [("Version", format!("v{version}")), ("Major", major.to_string()), ("Minor", minor.to_string())];
        for (name, value) in told {
            flags += &format!(" -X k8s.io/component-base/version.git{name}={value}");
        }
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_is_pinned() {
        for tool in ALL {
            let version = tool.version().unwrap();
            assert!(crate::kube::version(version).is_some(), "{}: {version}", tool.name());
        }
        assert_eq!(KubeProxy.version().unwrap(), ApiServer.version().unwrap());
    }
}
