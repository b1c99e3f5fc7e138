//! What this process asks of other servers, counted as Kubernetes' own client does.

use std::time::Duration;

use hyper::{Method, StatusCode};
use prometheus::core::Collector as _;
use prometheus::proto::MetricFamily;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts};

/// Upper bounds of the time to the head of an answer, seconds: client-go's.
const BOUNDS: [f64; 12] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];

/// Requests. All clones count together.
#[derive(Clone, Debug)]
pub struct Requests {
    total: IntCounterVec,
    durations: HistogramVec,
}

impl Requests {
    /// None yet.
    ///
    /// # Errors
    /// Never, unless the names of the metrics are none.
    pub fn new() -> Result<Self, prometheus::Error> {
        let total = Opts::new("rest_client_requests_total", "Requests to the API server by HTTP status.");
        let text = "How long it took from a request to the API server to the head of its answer.";
        let durations = HistogramOpts::new("rest_client_request_duration_seconds", text);
        Ok(Self {
            total: IntCounterVec::new(total, &["code", "method", "host"])?,
            durations: HistogramVec::new(durations.buckets(BOUNDS.to_vec()), &["verb", "host"])?,
        })
    }

    /// Notes a request to `host`, a name or address with a port, that was answered after `took`; without `status` it was
    /// not.
    pub fn note(&self, method: &Method, host: &str, status: Option<StatusCode>, took: Duration) {
        let code = status.as_ref().map_or("<error>", StatusCode::as_str);
        self.total.with_label_values(&[code, method.as_str(), host]).inc();
        self.durations.with_label_values(&[method.as_str(), host]).observe(took.as_secs_f64());
    }

    /// All of it, for Prometheus.
    #[must_use]
    pub fn collect(&self) -> Vec<MetricFamily> {
        [self.total.collect(), self.durations.collect()].concat()
    }
}
