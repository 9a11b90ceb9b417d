//! How the writer of records stands: what its thread tells everybody else, and they it.
//!
//! Nothing here waits or locks. The figures are for whoever watches; what the record itself says
//! of what is missing in it is counted apart, and taken when it is written.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use crate::metrics::{
    Exposition, WAITING,
    series::{Counter, Histogram},
};

#[derive(Debug)]
pub(super) struct Standing {
    /// Whether the last attempt to write was a success.
    pub(super) writing: AtomicBool,
    /// Records for which there was no room, and of which nothing says so yet.
    pub(super) lost: AtomicU64,
    /// Lines that the kernel has.
    pub(super) written: Counter,
    /// Records that could not be written when they came.
    pub(super) failed: Counter,
    /// Those of them, and of those without room, that never will be.
    pub(super) missing: Counter,
    /// From a batch to the kernel, and from the kernel to the disk.
    pub(super) writes: Histogram,
    pub(super) syncs: Histogram,
}

impl Default for Standing {
    fn default() -> Self {
        Self {
            writing: AtomicBool::new(true),
            lost: AtomicU64::new(0),
            written: Counter::default(),
            failed: Counter::default(),
            missing: Counter::default(),
            writes: Histogram::new(WAITING),
            syncs: Histogram::new(WAITING),
        }
    }
}

impl Standing {
    /// Notes that there was no room for a record.
    pub(super) fn lose(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        self.missing.add(1);
    }
}

/// What a recorder counts; give it to a registry as a collector.
#[derive(Debug)]
pub struct RecordMetrics(pub(super) Arc<Standing>);

impl Collector for RecordMetrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Standing { writing, lost: _, written, failed, missing, writes, syncs } = &*self.0;
        let mut out = Exposition(encoder);
        out.gauge(
            "records_writing",
            "1 if the last attempt to write records was a success",
            |one| one.encode_gauge(&u64::from(writing.load(Ordering::Relaxed))),
        )?;
        out.counter("records_written", "Records that were written", |one| written.encode(one))?;
        out.counter("records_failed", "Records that could not be written when they came", |one| {
            failed.encode(one)
        })?;
        out.counter("records_lost", "Records that never will be written", |one| {
            missing.encode(one)
        })?;
        out.seconds(
            "record_write",
            "How long batches of records took to reach the kernel",
            |one| writes.encode(one),
        )?;
        out.seconds("record_sync", "How long records took from the kernel to the disk", |one| {
            syncs.encode(one)
        })
    }
}
