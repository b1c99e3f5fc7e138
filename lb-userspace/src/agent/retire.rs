//! What agents of another schema left: their programs stay attached beside ours, and their tables are nobody's.

use std::future::pending;

use tokio::sync::watch;
use tracing::{info, warn};

use crate::bpf::cleanup;
use crate::bpf::pin::PinDir;
use crate::reconcile::Report;
use crate::tasks::blocking;

/// Takes it away once the tables of this agent are in place; until then it goes on serving. Goes on for ever.
pub(super) async fn follow(pins: PinDir, mut reports: watch::Receiver<Report>) {
    if reports.wait_for(|report| report.synced).await.is_ok() {
        match blocking(move || cleanup::retire(&pins)).await {
            Ok(0) => {}
            Ok(_) => info!("what another version of Sluice had attached was taken away"),
            Err(error) => warn!(
                "programs of another version of Sluice stay attached, with tables that nobody keeps: {error}"
            ),
        }
    }
    pending::<()>().await;
}
