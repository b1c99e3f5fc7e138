//! The signals by which the agent is asked to end.

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

/// The handlers of SIGTERM and SIGINT. A signal that comes after they are there is not lost, whenever it is asked for.
pub(super) struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    /// Sets the handlers, within an event loop.
    ///
    /// # Errors
    /// When the kernel refuses (`sigaction`).
    pub(super) fn new() -> anyhow::Result<Self> {
        let terminate = signal(SignalKind::terminate()).context("sigaction SIGTERM")?;
        let interrupt = signal(SignalKind::interrupt()).context("sigaction SIGINT")?;
        Ok(Self { terminate, interrupt })
    }

    /// Waits for one of them.
    pub(super) async fn asked(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => info!("SIGTERM: the datapath stays in place"),
            _ = self.interrupt.recv() => info!("SIGINT: the datapath stays in place"),
        }
    }
}
