//! What is counted in: plain atomics in a fixed place for each value of a label.
//!
//! Counting takes no lock, allocates nothing and looks nothing up; reading while others count may
//! see one figure a moment before another. The histograms of the library take a lock for each
//! observation, and its families a look-up, which is why neither is used.

use std::{
    fmt,
    marker::PhantomData,
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::Duration,
};

use prometheus_client::encoding::{MetricEncoder, NoLabelSet};

use super::label::Label;

/// A figure that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn encode(&self, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_counter::<NoLabelSet, u64, f64>(&self.0.load(Ordering::Relaxed), None)
    }
}

/// How many there are now.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicI64);

impl Gauge {
    pub(crate) fn add(&self, more: i64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn encode(&self, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_gauge(&self.0.load(Ordering::Relaxed))
    }
}

/// How long things took, in buckets.
#[derive(Debug)]
pub(crate) struct Histogram {
    /// Upper ends in seconds, each included, in order.
    ends: &'static [f64],
    /// One for each end, and one for what is longer than all.
    counts: Box<[AtomicU64]>,
    /// The bits of a number of seconds: a whole number of small units would overflow in days where
    /// tens of thousands of hours end.
    sum: AtomicU64,
}

impl Histogram {
    pub(crate) fn new(ends: &'static [f64]) -> Self {
        let counts = (0..=ends.len()).map(|_| AtomicU64::new(0)).collect();
        Self { ends, counts, sum: AtomicU64::new(0.0_f64.to_bits()) }
    }

    pub(crate) fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let at = self.ends.iter().take_while(|end| **end < seconds).count();
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        let add = |sum| Some((f64::from_bits(sum) + seconds).to_bits());
        // Adding never declines.
        let _ = self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    pub(crate) fn encode(&self, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        let ends = self.ends.iter().copied().chain([f64::INFINITY]);
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<_> = ends.zip(counts).collect();
        // From the buckets, so that the figures agree with each other whenever they are read.
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = f64::from_bits(self.sum.load(Ordering::Relaxed));
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}

/// One of `M` for each value of a label.
#[derive(Debug)]
pub(crate) struct By<L, M> {
    each: Box<[M]>,
    label: PhantomData<L>,
}

impl<L: Label, M> By<L, M> {
    pub(crate) fn new(make: impl Fn() -> M) -> Self {
        Self { each: L::ALL.iter().map(|_| make()).collect(), label: PhantomData }
    }

    pub(crate) fn of(&self, label: L) -> &M {
        &self.each[label.index()]
    }

    /// Encodes each with its label.
    pub(crate) fn encode(
        &self,
        encoder: &mut MetricEncoder<'_>,
        each: impl Fn(&M, &mut MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        L::ALL.iter().zip(&self.each).try_for_each(|(label, metric)| {
            let labels = [(L::NAME, label.word())];
            each(metric, &mut encoder.encode_family(&labels)?)
        })
    }
}

impl<L: Label, M: Default> Default for By<L, M> {
    fn default() -> Self {
        Self::new(M::default)
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{
        collector::Collector,
        encoding::{DescriptorEncoder, text::encode},
        metrics::MetricType,
        registry::Registry,
    };

    use super::*;

    #[derive(Debug)]
    struct Alone(Histogram);

    impl Collector for Alone {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
            self.0.encode(&mut encoder.encode_descriptor("h", "H.", None, MetricType::Histogram)?)
        }
    }

    #[test]
    fn an_end_belongs_to_its_bucket_and_what_is_longer_to_the_last() {
        let histogram = Histogram::new(&[0.25, 1.0]);
        for milliseconds in [0, 250, 375, 1000, 5000] {
            histogram.observe(Duration::from_millis(milliseconds));
        }
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Alone(histogram)));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "h_sum 6.625",
            "h_count 5",
            "h_bucket{le=\"0.25\"} 2",
            "h_bucket{le=\"1.0\"} 4",
            "h_bucket{le=\"+Inf\"} 5",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
