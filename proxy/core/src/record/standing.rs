//! How the writer of records stands: what its thread tells everybody else, and they it.
//!
//! Nothing here waits or locks. A disk that stands still fails nothing, so the thread says since
//! when it has been at work. The figures are for whoever watches; what the record itself says
//! of what is missing in it is counted apart, and taken when it is written.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::writer::PATIENCE;
use crate::metrics::{
    Exposition, WAITING,
    series::{Counter, Histogram},
};

#[derive(Debug)]
pub(super) struct Standing {
    began: Instant,
    /// Whether the last attempt to write was a success.
    writes_get_through: AtomicBool,
    /// Milliseconds after `began`; 0 while the thread has nothing to do.
    busy_since: AtomicU64,
    /// Bytes that lines take until the thread has them.
    waiting: AtomicUsize,
    /// Records for which there was no room, and of which nothing says so yet.
    lost: AtomicU64,
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
            began: Instant::now(),
            writes_get_through: AtomicBool::new(true),
            busy_since: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
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
    /// Whether the last attempt to write was a success, and none has been under way for longer
    /// than an exchange waits.
    pub(super) fn is_writing(&self) -> bool {
        self.is_writing_within(PATIENCE)
    }

    fn is_writing_within(&self, patience: Duration) -> bool {
        let stands_still = match self.busy_since.load(Ordering::Relaxed) {
            0 => false,
            since => self.elapsed().saturating_sub(since) > milliseconds(patience),
        };
        self.writes_get_through() && !stands_still
    }

    /// Whether the last attempt to write was a success.
    pub(super) fn writes_get_through(&self) -> bool {
        self.writes_get_through.load(Ordering::Relaxed)
    }

    /// Whether more lines may wait. What was promised room before still comes on top.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) < MOST_WAITING
    }

    /// Notes a line that waits.
    pub(super) fn queued(&self, bytes: usize) {
        self.waiting.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Notes that lines wait no longer.
    pub(super) fn taken(&self, bytes: usize) {
        self.waiting.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Notes whether writing was a success; returns whether it was before.
    pub(super) fn set_writing(&self, success: bool) -> bool {
        self.writes_get_through.swap(success, Ordering::Relaxed)
    }

    /// Does something for which a disk may take its time.
    pub(super) fn while_busy<T>(&self, work: impl FnOnce() -> T) -> T {
        self.busy_since.store(self.elapsed().max(1), Ordering::Relaxed);
        let done = work();
        self.busy_since.store(0, Ordering::Relaxed);
        done
    }

    /// Returns how many found no room, of which nothing says so yet.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Takes how many found no room since this was asked last.
    pub(super) fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }

    fn elapsed(&self) -> u64 {
        milliseconds(self.began.elapsed())
    }

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
        let Standing { written, failed, missing, writes, syncs, .. } = &*self.0;
        let mut out = Exposition(encoder);
        out.gauge(
            "records_writing",
            "1 if the last attempt to write records was a success",
            |one| one.encode_gauge(&u64::from(self.0.is_writing())),
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

/// Bytes of lines that may wait: a disk that stands still must not fill the memory.
const MOST_WAITING: usize = 64 << 20;

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_stands_still_is_told_from_one_that_is_waited_for() {
        let standing = Standing::default();
        assert!(standing.is_writing_within(Duration::ZERO));
        standing.while_busy(|| {
            assert!(standing.is_writing());
            while standing.is_writing_within(Duration::from_millis(1)) {}
        });
        assert!(standing.is_writing_within(Duration::ZERO));
        assert!(standing.set_writing(false));
        assert!(!standing.is_writing_within(Duration::MAX));
    }
}
