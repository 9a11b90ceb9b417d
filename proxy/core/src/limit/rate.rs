//! A rate of so many a minute with bursts of as many, in one word (GCRA).
//!
//! The word is the moment at which the whole burst is there again. Whatever the figure, a burst
//! is worth a minute, so a figure that changes keeps the part of the burst that was taken. Never
//! more than the burst and what the time since has earned is let through; rounding is against the
//! taker. Time is an argument, and going backwards earns nothing.

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

#[derive(Debug, Default)]
pub(super) struct Rate {
    /// In nanoseconds of the caller's clock.
    whole_at: AtomicU64,
}

impl Rate {
    /// Takes one; refused with how long it is until there is one.
    pub(super) fn take(&self, per_minute: NonZeroU32, now: Duration) -> Result<(), Duration> {
        let (step, now) = (step(per_minute), nanoseconds(now));
        let depth = step * u64::from(per_minute.get());
        let taken = |whole_at: u64| {
            let next = whole_at.max(now) + step;
            (next - now <= depth).then_some(next)
        };
        match self.whole_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken) {
            Ok(_) => Ok(()),
            Err(whole_at) => Err(wait(whole_at, step, depth, now)),
        }
    }

    /// Says what taking one would, and takes none.
    pub(super) fn look(&self, per_minute: NonZeroU32, now: Duration) -> Result<(), Duration> {
        let (step, now) = (step(per_minute), nanoseconds(now));
        let depth = step * u64::from(per_minute.get());
        let whole_at = self.whole_at.load(Ordering::Relaxed);
        if whole_at.max(now) + step - now <= depth {
            return Ok(());
        }
        Err(wait(whole_at, step, depth, now))
    }

    /// Whether nothing of the burst is missing.
    pub(super) fn is_whole(&self, now: Duration) -> bool {
        self.whole_at.load(Ordering::Relaxed) <= nanoseconds(now)
    }
}

/// What one costs; rounded up, so that a minute earns no more than the figure.
fn step(per_minute: NonZeroU32) -> u64 {
    MINUTE.div_ceil(u64::from(per_minute.get()))
}

fn wait(whole_at: u64, step: u64, depth: u64, now: u64) -> Duration {
    Duration::from_nanos((whole_at + step).saturating_sub(depth + now))
}

/// Enough for 580 years.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX >> 1)
}

const MINUTE: u64 = 60_000_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn figure(per_minute: u32) -> NonZeroU32 {
        NonZeroU32::new(per_minute).unwrap()
    }

    fn takes(rate: &Rate, per_minute: u32, now: Duration) -> u32 {
        let mut taken = 0;
        while rate.take(figure(per_minute), now).is_ok() {
            taken += 1;
        }
        taken
    }

    #[test]
    fn a_burst_is_the_figure_and_a_minute_earns_it_again() {
        for per_minute in [1, 3, 7, 600] {
            let rate = Rate::default();
            let now = Duration::from_secs(5);
            assert_eq!(takes(&rate, per_minute, now), per_minute);
            assert!(!rate.is_whole(now));
            let later = now + Duration::from_secs(61);
            assert!(rate.is_whole(later));
            assert_eq!(takes(&rate, per_minute, later), per_minute);
        }
    }

    #[test]
    fn a_refusal_says_to_the_nanosecond_when_to_come_back() {
        let rate = Rate::default();
        let now = Duration::from_secs(9);
        assert_eq!(takes(&rate, 3, now), 3);
        assert_eq!(rate.look(figure(3), now), Err(Duration::from_secs(20)));
        let wait = rate.take(figure(3), now + Duration::from_secs(1)).unwrap_err();
        assert_eq!(wait, Duration::from_secs(19));
        let early = now + Duration::from_secs(20) - Duration::from_nanos(1);
        assert_eq!(rate.take(figure(3), early), Err(Duration::from_nanos(1)));
        assert_eq!(rate.take(figure(3), now + Duration::from_secs(20)), Ok(()));
    }

    #[test]
    fn another_figure_keeps_the_part_that_was_taken() {
        let rate = Rate::default();
        let now = Duration::ZERO;
        for _ in 0..300 {
            rate.take(figure(600), now).unwrap();
        }
        assert_eq!(takes(&rate, 6, now), 3);
        assert_eq!(takes(&rate, 600, now), 0);
    }

    #[test]
    fn many_threads_take_no_more_than_one() {
        let rate = Rate::default();
        let taken: u32 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| takes(&rate, 1000, Duration::from_secs(1))))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(taken, 1000);
    }

    /// A bucket of tokens in whole fractions of a nanosecond.
    struct Bucket {
        per_minute: u128,
        tokens: u128,
        at: u128,
    }

    impl Bucket {
        const TOKEN: u128 = MINUTE as u128;

        fn take(&mut self, now: u128) -> bool {
            let earned = (now - self.at) * self.per_minute;
            self.tokens = (self.tokens + earned).min(self.per_minute * Self::TOKEN);
            self.at = now;
            let taken = self.tokens >= Self::TOKEN;
            if taken {
                self.tokens -= Self::TOKEN;
            }
            taken
        }
    }

    /// Figures that divide a minute evenly, so that nothing is rounded.
    fn even() -> impl Strategy<Value = u32> {
        prop::sample::select(vec![1, 2, 3, 5, 12, 60, 600, 6000])
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_bucket_of_tokens(
            per_minute in even(),
            gaps in prop::collection::vec(0_u64..30_000_000_000, 1..200),
        ) {
            let rate = Rate::default();
            let (mut now, full) = (0_u64, u128::from(per_minute) * Bucket::TOKEN);
            let mut bucket = Bucket { per_minute: per_minute.into(), tokens: full, at: 0 };
            for gap in gaps {
                now += gap / u64::from(per_minute);
                let time = Duration::from_nanos(now);
                let looked = rate.look(figure(per_minute), time);
                let taken = rate.take(figure(per_minute), time);
                prop_assert_eq!(looked, taken);
                prop_assert_eq!(taken.is_ok(), bucket.take(now.into()));
            }
        }

        #[test]
        fn no_window_holds_more_than_a_burst_and_what_it_earned(
            per_minute in 1_u32..5000,
            gaps in prop::collection::vec(0_u64..100_000_000, 1..300),
        ) {
            let rate = Rate::default();
            let (mut now, mut taken) = (0_u64, vec![]);
            for gap in gaps {
                now += gap;
                if rate.take(figure(per_minute), Duration::from_nanos(now)).is_ok() {
                    taken.push(now);
                }
            }
            for (first, start) in taken.iter().enumerate() {
                for (last, end) in taken.iter().enumerate().skip(first) {
                    let earned = u64::from(per_minute) * (end - start) / MINUTE;
                    prop_assert!((last - first + 1) as u64 <= u64::from(per_minute) + earned);
                }
            }
        }
    }
}
