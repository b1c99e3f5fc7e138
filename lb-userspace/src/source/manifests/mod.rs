//! A folder of Kubernetes manifests, read and watched.
//!
//! ```text
//! inotify ──> tree (which files changed) ──> document (text to objects) ──> files (which file has which object) ──> Update
//! ```
//!
//! Files named `*.yaml`, `*.yml` and `*.json` count, in sub-folders too; names that begin with a dot do not, and what an
//! editor writes beside a file ends otherwise. Symbolic links are followed, each folder is read once. Work is done only
//! for files that changed.

pub(crate) mod document;
mod files;
mod tree;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use notify::{RecursiveMode, Watcher};
use thiserror::Error;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::Update;
use crate::tasks::Ended;
pub use document::{Fault, Reading};
use tree::Tree;

/// Why a folder cannot be followed.
#[derive(Debug, Error)]
pub enum OpenError {
    /// It is not there, or cannot be read.
    #[error("folder of manifests {}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It cannot be watched.
    #[error("folder of manifests {}: inotify: {source}; fs.inotify.max_user_instances or max_user_watches may be too low", path.display())]
    Watch {
        /// The folder.
        path: PathBuf,
        /// What was said.
        source: notify::Error,
    },
}

/// A folder that is being followed.
#[derive(Debug)]
pub struct Folder {
    updates: UnboundedReceiver<Update>,
}

impl Folder {
    /// Begins to follow the folder at `path`; a thread of its own does the reading and ends with the returned value.
    ///
    /// # Errors
    /// The folder is not there, cannot be read or cannot be watched. Later none of this is an error: what was read
    /// stays, with a problem that says so.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let folder = |source| OpenError::Folder { path: path.to_owned(), source };
        let watch = |source| OpenError::Watch { path: path.to_owned(), source };
        std::fs::read_dir(path).map_err(folder)?;
        let root = std::path::absolute(path).map_err(folder)?;
        let (sender, events) = mpsc::channel();
        let mut watcher = notify::recommended_watcher(sender).map_err(watch)?;
        watcher.watch(&root, RecursiveMode::NonRecursive).map_err(watch)?;
        let (sender, updates) = unbounded_channel();
        let run = move || Tree::new(root, watcher).follow(&events, &sender);
        thread::Builder::new().name("manifests".to_owned()).spawn(run).map_err(folder)?;
        Ok(Self { updates })
    }

    /// The next change. The first one comes at once and holds everything that there is.
    ///
    /// # Errors
    /// The thread has ended: there are no more changes.
    pub async fn next(&mut self) -> Result<Update, Ended> {
        self.updates.recv().await.ok_or_else(|| Ended::new("the thread that reads manifests"))
    }
}
