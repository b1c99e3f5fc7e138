//! The metrics server (B94).

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::StatusCode;
use hyper::body::Bytes;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use super::Exporter;
use crate::http::{self, Answer};

/// What kube-proxy calls its mode, this proxy has another one of.
const MODE: &str = "ebpf";
/// Prometheus' text format.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";
const PATHS: &str = "/metrics, /healthz, /proxyMode and /configz";

/// What the server tells.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Who waits for its turn takes no thread.
    exporter: Arc<Mutex<Exporter>>,
    /// The effective settings as JSON.
    config: Bytes,
}

impl Metrics {
    /// Tells what `exporter` does, and `config`.
    ///
    /// # Errors
    /// `config` cannot be written as JSON.
    pub fn new(exporter: Exporter, config: &impl Serialize) -> serde_json::Result<Self> {
        let config = serde_json::to_vec(&BTreeMap::from([("sluice", config)]))?;
        Ok(Self { exporter: Arc::new(Mutex::new(exporter)), config: config.into() })
    }

    /// The answer at `path`.
    pub async fn answer(self, path: String) -> Answer {
        match path.as_str() {
            "/metrics" => {
                let mut exporter = self.exporter.lock_owned().await;
                // Beside the event loop: the maps may be large.
                let text = spawn_blocking(move || exporter.text()).await;
                match text {
                    Ok(Ok(text)) => http::answer(StatusCode::OK, FORMAT, text),
                    Ok(Err(error)) => http::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
                    Err(error) => http::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
                }
            }
            "/healthz" => http::text(StatusCode::OK, "ok"),
            "/proxyMode" => http::text(StatusCode::OK, MODE),
            "/configz" => http::answer(StatusCode::OK, "application/json", self.config),
            _ => http::not_found(PATHS),
        }
    }
}
