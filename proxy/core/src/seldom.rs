//! Keeps what traffic can cause from flooding the log.
//!
//! What fails for one exchange fails for thousands, and a log that is full tells nothing. Each
//! kind of event is said at once, and then at most every ten seconds, with how many were not.
//! Records and metrics still count each of them.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// One kind of event.
pub(crate) struct Seldom {
    /// Milliseconds of [`BEGAN`] from which on it may be said again.
    from: AtomicU64,
    unsaid: AtomicU64,
}

impl Seldom {
    pub(crate) const fn new() -> Self {
        Self { from: AtomicU64::new(0), unsaid: AtomicU64::new(0) }
    }

    /// Returns how many went unsaid since the last one, if this one is to be said.
    pub(crate) fn due(&self) -> Option<u64> {
        self.due_after(BEGAN.elapsed())
    }

    fn due_after(&self, elapsed: Duration) -> Option<u64> {
        let now = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let from = self.from.load(Ordering::Relaxed);
        let next = now.saturating_add(EVERY_MS);
        // Of several at once, one says it.
        let due = now >= from
            && self.from.compare_exchange(from, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if due {
            return Some(self.unsaid.swap(0, Ordering::Relaxed));
        }
        self.unsaid.fetch_add(1, Ordering::Relaxed);
        None
    }
}

static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
const EVERY_MS: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_said_at_once_and_the_rest_is_counted() {
        let seldom = Seldom::new();
        let due = |milliseconds| seldom.due_after(Duration::from_millis(milliseconds));
        assert_eq!(due(5), Some(0));
        assert_eq!([due(5), due(6), due(10_004)], [None; 3]);
        assert_eq!(due(10_005), Some(3));
        assert_eq!(due(10_006), None);
        assert_eq!(due(30_000), Some(1));
    }
}
