//! Values as Prometheus takes them.

use std::time::Duration;

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, MetricFamily, MetricType};
use prometheus::{TextEncoder, proto};

use super::names::Metric;
use crate::reconcile;

/// What is told at once.
#[derive(Debug, Default)]
pub(super) struct Families(Vec<MetricFamily>);

impl Families {
    /// Tells the one value of `metric`.
    pub(super) fn one(&mut self, metric: &Metric, value: f64) {
        self.many(metric, [([], value)]);
    }

    /// Tells the values of `metric`, each with those of its labels, in their order.
    pub(super) fn many<const N: usize>(
        &mut self,
        metric: &Metric,
        values: impl IntoIterator<Item = ([String; N], f64)>,
    ) {
        let value = |(labels, value)| {
            let mut told = proto::Metric::from_label(pairs(metric, labels));
            if metric.kind == MetricType::COUNTER {
                let mut counter = Counter::default();
                counter.set_value(value);
                told.set_counter(counter);
            } else {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                told.set_gauge(gauge);
            }
            told
        };
        self.push(metric, values.into_iter().map(value).collect());
    }

    /// Tells a histogram for each value of the one label of `metric`.
    pub(super) fn histograms<'a, const N: usize>(
        &mut self,
        metric: &Metric,
        values: impl IntoIterator<Item = (String, &'a reconcile::Histogram<N>)>,
    ) {
        let bucket = |(bound, count): (Duration, u64)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound.as_secs_f64());
            bucket.set_cumulative_count(count);
            bucket
        };
        let value = |(label, value): (String, &reconcile::Histogram<N>)| {
            let mut histogram = Histogram::default();
            histogram.set_bucket(value.buckets().map(bucket).collect());
            histogram.set_sample_count(value.count());
            histogram.set_sample_sum(value.sum().as_secs_f64());
            let mut told = proto::Metric::from_label(pairs(metric, [label]));
            told.set_histogram(histogram);
            told
        };
        self.push(metric, values.into_iter().map(value).collect());
    }

    /// Tells what has been collected elsewhere.
    pub(super) fn collected(&mut self, families: Vec<MetricFamily>) {
        self.0.extend(families.into_iter().filter(|family| !family.get_metric().is_empty()));
    }

    /// All of it in Prometheus' text format.
    ///
    /// # Errors
    /// Never: each family has a name and a value.
    pub(super) fn text(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.0)
    }

    fn push(&mut self, metric: &Metric, values: Vec<proto::Metric>) {
        if values.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(metric.name.to_owned());
        family.set_help(metric.help.to_owned());
        family.set_field_type(metric.kind);
        family.set_metric(values);
        self.0.push(family);
    }
}

fn pairs<const N: usize>(metric: &Metric, values: [String; N]) -> Vec<LabelPair> {
    debug_assert_eq!(metric.labels.len(), N, "{}", metric.name);
    let pair = |(name, value): (&&str, String)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value(value);
        pair
    };
    metric.labels.iter().zip(values).map(pair).collect()
}
