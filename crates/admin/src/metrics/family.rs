//! One metric: its name, its type, and a number for each set of labels.

use std::collections::BTreeMap;

use pool::meter::Histogram;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram as Buckets, LabelPair, Metric, MetricFamily, MetricType,
};

/// A metric that is being put together.
pub(super) struct Family {
    name: String,
    help: &'static str,
    kind: MetricType,
    samples: BTreeMap<Labels, Sample>,
}

/// Names of labels and their values, in the order in which they are told.
type Labels = Vec<(&'static str, String)>;

/// A metric's value.
enum Sample {
    Number(f64),
    Times(Box<Histogram>),
}

/// What goes up and down.
pub(super) fn gauge(name: impl Into<String>, help: &'static str) -> Family {
    Family::new(name.into(), help, MetricType::GAUGE)
}

/// What goes up only.
pub(super) fn counter(name: impl Into<String>, help: &'static str) -> Family {
    Family::new(name.into(), help, MetricType::COUNTER)
}

/// How long things took.
pub(super) fn histogram(name: impl Into<String>, help: &'static str) -> Family {
    Family::new(name.into(), help, MetricType::HISTOGRAM)
}

impl Family {
    fn new(name: String, help: &'static str, kind: MetricType) -> Self {
        Self {
            name,
            help,
            kind,
            samples: BTreeMap::new(),
        }
    }

    /// A metric of one number.
    pub(super) fn of(mut self, value: f64) -> Self {
        self.add(&[], value);
        self
    }

    /// Puts a number; those with the same labels add up.
    pub(super) fn add(&mut self, labels: &[(&'static str, &str)], value: f64) {
        let sample = self.samples.entry(owned(labels));
        if let Sample::Number(sum) = sample.or_insert(Sample::Number(0.0)) {
            *sum += value;
        }
    }

    /// Puts a number; of those with the same labels the largest stays.
    pub(super) fn add_largest(&mut self, labels: &[(&'static str, &str)], value: f64) {
        let sample = self.samples.entry(owned(labels));
        if let Sample::Number(largest) = sample.or_insert(Sample::Number(value)) {
            *largest = largest.max(value);
        }
    }

    /// Puts durations; those with the same labels add up.
    pub(super) fn add_times(&mut self, labels: &[(&'static str, &str)], times: &Histogram) {
        let sample = self.samples.entry(owned(labels));
        if let Sample::Times(sum) = sample.or_insert_with(|| Sample::Times(Box::default())) {
            **sum += *times;
        }
    }

    /// What is encoded; `None` without samples.
    pub(super) fn finish(self) -> Option<MetricFamily> {
        if self.samples.is_empty() {
            return None;
        }
        let kind = self.kind;
        let samples = self.samples.into_iter();
        let mut family = MetricFamily::default();
        family.set_name(self.name);
        family.set_help(self.help.to_owned());
        family.set_field_type(kind);
        family.set_metric(samples.map(|(of, value)| metric(kind, of, value)).collect());
        Some(family)
    }
}

fn owned(labels: &[(&'static str, &str)]) -> Labels {
    let labels = labels.iter();
    labels
        .map(|&(name, value)| (name, value.to_owned()))
        .collect()
}

fn metric(kind: MetricType, labels: Labels, sample: Sample) -> Metric {
    let pairs = labels.into_iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value);
        pair
    });
    let mut metric = Metric::from_label(pairs.collect());
    match sample {
        Sample::Number(value) if kind == MetricType::COUNTER => {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        }
        Sample::Number(value) => {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        Sample::Times(times) => metric.set_histogram(buckets(&times)),
    }
    metric
}

fn buckets(times: &Histogram) -> Buckets {
    let bucket = |(bound, below): (std::time::Duration, u64)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound.as_secs_f64());
        bucket.set_cumulative_count(below);
        bucket
    };
    let mut buckets = Buckets::default();
    buckets.set_bucket(times.buckets().map(bucket).collect());
    buckets.set_sample_count(times.count());
    buckets.set_sample_sum(times.sum().as_secs_f64());
    buckets
}
