//! Where objects come from, as the flags say it.

use std::fmt;
use std::path::PathBuf;

use anyhow::Context as _;

use crate::source::Source;
use crate::source::api::{Access, Api};
use crate::source::manifests::Folder;

/// Which source is followed: a folder, or an API server. Without any of them it is the API server of the cluster whose
/// pod this is.
#[derive(clap::Args, Clone, Debug, Default)]
#[group(skip)]
pub struct Flags {
    /// Folder of Kubernetes manifests (YAML or JSON) to follow in place of an API server
    #[arg(long, value_name = "DIR", conflicts_with_all = ["kubeconfig", "master"])]
    pub manifests: Option<PathBuf>,

    /// Kubeconfig that names the API server and the credentials for it [default: the service account of the pod]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// URL of the API server: beats the one in the kubeconfig, and the address that a pod is told
    ///
    /// A pod is told the ClusterIP of Service kubernetes, which works only once Sluice has programmed it: name an
    /// address of the API server itself.
    #[arg(long, value_name = "URL")]
    pub master: Option<String>,
}

/// What was named.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    /// This folder, by its absolute path.
    Folder(PathBuf),
    /// The API server that this is the way to. Others may ask it as well.
    Api(Access),
}

impl Flags {
    /// What these flags name.
    ///
    /// # Errors
    /// A file or variable that says how to reach the API server cannot be used.
    pub(super) fn origin(&self) -> anyhow::Result<Origin> {
        let Self { manifests, kubeconfig, master } = self;
        Ok(match manifests {
            Some(folder) => Origin::Folder(std::path::absolute(folder).context("getcwd")?),
            None => Origin::Api(Access::new(kubeconfig.clone(), master.clone())?),
        })
    }
}

impl Origin {
    /// Begins to follow it for the node called `node`.
    ///
    /// # Errors
    /// The folder is not there or cannot be watched; no thread can be had.
    pub(super) fn open(&self, node: &str) -> anyhow::Result<Source> {
        Ok(match self {
            Self::Folder(folder) => Source::Folder(Folder::open(folder)?),
            Self::Api(access) => Source::Api(Api::open(access.clone(), node)?),
        })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(f),
            Self::Api(access) => access.fmt(f),
        }
    }
}
