//! The Service whose endpoint changes, and a plain watch that tells when the API server has told of it.

use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::objects::Size;
use super::proxy::LIMIT;
use super::scene::TURNS;
use crate::kube::{Api, ControlPlane};
use crate::lab::now_ns;

/// The probe.
#[derive(Debug)]
pub(super) struct Probe<'a> {
    plane: &'a ControlPlane,
    api: Api,
    size: Size,
    turn: usize,
    /// When the watch told of which version.
    events: Receiver<(u64, Value)>,
}

/// A change that has been made; times in nanoseconds of the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Changed {
    /// When the API server had answered.
    pub(super) answered: u64,
    /// When the watch had told of it.
    pub(super) watched: u64,
}

impl<'a> Probe<'a> {
    /// Begins to watch it.
    ///
    /// # Errors
    /// When it is not there.
    pub(super) fn watch(plane: &'a ControlPlane, size: Size) -> Result<Self> {
        let (api, watcher) = (plane.client()?, plane.client()?);
        let path = size.probe_path();
        let (told, events) = mpsc::channel();
        plane.space().within(|| {
            let slice = api.get(&path)?;
            let version = slice["metadata"]["resourceVersion"].as_str().context("a slice without a version")?;
            let (folder, name) = path.rsplit_once('/').context("a path")?;
            let query = format!(
                "{folder}?watch=1&fieldSelector=metadata.name%3D{name}&resourceVersion={version}&timeoutSeconds=86400"
            );
            // It ends with the API server, or with the next event after whoever listens has gone.
            thread::spawn(move || {
                watcher.watch(&query, |event| {
                    let version = event["object"]["metadata"]["resourceVersion"].clone();
                    Ok(told.send((now_ns(), version)).is_ok())
                })
            });
            Ok(())
        })?;
        Ok(Self { plane, api, size, turn: 0, events })
    }

    /// Where it is.
    pub(super) fn address(&self) -> SocketAddr {
        self.size.probe()
    }

    /// What there is besides.
    pub(super) const fn size(&self) -> Size {
        self.size
    }

    /// The name of the pod that is behind it.
    pub(super) fn now(&self) -> &'static str {
        TURNS[self.turn % TURNS.len()]
    }

    /// The name of the pod that the next change brings.
    pub(super) fn next(&self) -> &'static str {
        TURNS[(self.turn + 1) % TURNS.len()]
    }

    /// Puts the other pod behind it.
    ///
    /// # Errors
    /// What the API server says, and when the watch does not tell of it.
    pub(super) fn change(&mut self) -> Result<Changed> {
        self.turn += 1;
        let patch = json!({ "endpoints": self.size.probe_endpoints(self.turn) });
        let (answered, version) = self.plane.space().within(|| {
            let slice = self.api.merge(&self.size.probe_path(), &patch)?;
            Ok((now_ns(), slice["metadata"]["resourceVersion"].clone()))
        })?;
        loop {
            let (watched, told) = self.events.recv_timeout(LIMIT).context("the watch does not tell")?;
            if told == version {
                return Ok(Changed { answered, watched });
            }
        }
    }
}
