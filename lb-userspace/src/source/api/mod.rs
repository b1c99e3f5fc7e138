//! The Kubernetes API, followed.
//!
//! ```text
//! access (flags, files) ─> link (one client) ─┬> follow Service        ─┐
//!                                             ├> follow EndpointSlice  ─┤
//!                                             ├> follow Node (own)     ─┼─> gather ─> Update
//!                                             └> follow ServiceCIDR    ─┘
//! ```
//!
//! Objects become the model's lean ones as their bytes arrive, and are handed on at once: nothing is kept here, but the
//! names in a list until it ends. A thread of its own does it, with a runtime of its own.

mod access;
mod backoff;
mod client;
mod failure;
mod follow;
mod gather;
mod link;
mod wire;

use std::sync::Arc;
use std::thread;

use tokio::runtime::Builder;
use tokio::sync::mpsc;

use super::Update;
use crate::tasks::{Ended, Tasks};
pub use access::{Access, AccessError, Connector, Server};
use follow::Follower;
use gather::Gather;
use link::Link;
use wire::Resource;

/// News that may wait: they bound what a list takes while the model is slower than the server.
const NEWS: usize = 1024;
/// Updates that may wait.
const UPDATES: usize = 4;

/// An API server that is being followed.
#[derive(Debug)]
pub struct Api {
    updates: mpsc::Receiver<Result<Update, Ended>>,
}

impl Api {
    /// Begins to follow, for the node called `node`.
    ///
    /// # Errors
    /// No thread can be had. That the server cannot be reached is none: an update says so, and it is tried again.
    pub fn open(access: Access, node: &str) -> Result<Self, AccessError> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(AccessError::Thread)?;
        let (sender, updates) = mpsc::channel(UPDATES);
        let node = node.to_owned();
        let run = move || runtime.block_on(follow(access, &node, sender));
        thread::Builder::new().name("api".to_owned()).spawn(run).map_err(AccessError::Thread)?;
        Ok(Self { updates })
    }

    /// The next change; the first says that nothing is known yet.
    ///
    /// # Errors
    /// A follower or the thread has ended: there are no more changes.
    pub async fn next(&mut self) -> Result<Update, Ended> {
        self.updates.recv().await.unwrap_or_else(|| Err(Ended::new("the thread of the API source")))
    }
}

async fn follow(access: Access, node: &str, updates: mpsc::Sender<Result<Update, Ended>>) {
    let (sender, news) = mpsc::channel(NEWS);
    let link = Arc::new(Link::new(access, sender.clone()));
    let mut followers = Tasks::default();
    for resource in Resource::all(node) {
        let name = format!("the follower of {} objects", resource.kind);
        followers.spawn(name, Follower::new(resource, Arc::clone(&link), sender.clone()).run());
    }
    tokio::select! {
        () = Gather::new(node).run(news, &updates) => {}
        // It fails when nobody wants updates any more.
        ended = followers.ended() => drop(updates.send(Err(ended)).await),
    }
}
