//! `/healthz` and `/livez`.

use std::time::Instant;

use hyper::StatusCode;
use prometheus::{IntCounterVec, Opts};
use tokio::sync::watch;

use super::Told;
use super::verdict::{Clock, Facts};
use crate::http::{self, Answer};
use crate::reconcile::Report;

/// What is served.
const PATHS: &str = "/healthz and /livez";

/// How things stand, for whoever asks.
#[derive(Clone, Debug)]
pub struct Health {
    /// When the agent began.
    pub started: Instant,
    /// What is programmed.
    pub reports: watch::Receiver<Report>,
    /// What the source says.
    pub told: watch::Receiver<Told>,
    /// Answers to `/healthz`, by status code.
    pub healthz: IntCounterVec,
    /// Answers to `/livez`, by status code.
    pub livez: IntCounterVec,
}

impl Health {
    /// For an agent that begins now.
    ///
    /// # Errors
    /// Never, unless the names of the counters are none.
    pub fn new(
        reports: watch::Receiver<Report>,
        told: watch::Receiver<Told>,
    ) -> Result<Self, prometheus::Error> {
        // Both codes are told from the start: the rate of a series that begins with what it counts is none.
        let counter = |name, text| -> Result<IntCounterVec, prometheus::Error> {
            let counter = IntCounterVec::new(Opts::new(name, text), &["code"])?;
            for status in [StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE] {
                counter.with_label_values(&[status.as_str()]);
            }
            Ok(counter)
        };
        Ok(Self {
            started: Instant::now(),
            reports,
            told,
            healthz: counter("kubeproxy_proxy_healthz_total", "Answers to /healthz by HTTP status.")?,
            livez: counter("kubeproxy_proxy_livez_total", "Answers to /livez by HTTP status.")?,
        })
    }

    /// Whether the proxy keeps up: what of [`Health`] the health checks of Services look at (B93).
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.facts(&self.reports.borrow()).is_healthy()
    }

    fn facts<'a>(&self, report: &'a Report) -> Facts<'a> {
        Facts { families: &report.families, started: self.started, now: Clock::now() }
    }

    /// The answer at `path`.
    #[must_use]
    pub fn answer(&self, path: &str) -> Answer {
        let (eligible, counter) = match path {
            "/healthz" => (Some(self.told.borrow().eligible), &self.healthz),
            "/livez" => (None, &self.livez),
            _ => return http::not_found(PATHS),
        };
        let verdict = self.facts(&self.reports.borrow()).verdict(eligible);
        let well = verdict.healthy && eligible != Some(false);
        let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        counter.with_label_values(&[status.as_str()]).inc();
        http::json(status, &verdict)
    }
}
