//! Days in UTC, and bytes counted within one.
//!
//! Day and bytes share a word, so that midnight and a count cannot fall between each other: 16
//! bits of days and 48 of bytes. A budget above 256 TiB a day is therefore one of 256 TiB. A clock
//! that is set back keeps what was used, as of the day that it says now: only a later day begins
//! anew, and the next one does.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use egret_policy::Timestamp;

/// A day in UTC, until the year 2149.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(u16);

impl Day {
    /// Returns the day that a time falls on; the first or last one for what lies outside.
    pub fn of(time: Timestamp) -> Self {
        let days = time.as_second().div_euclid(SECONDS);
        Self(u16::try_from(days.max(0)).unwrap_or(u16::MAX))
    }

    /// Returns the first moment of the day.
    pub fn start(self) -> Timestamp {
        Timestamp::from_second(i64::from(self.0) * SECONDS).expect("these days have timestamps")
    }

    /// Returns how long it is from a time of the day to the next one.
    pub(super) fn left(self, now: Timestamp) -> Duration {
        let next = self.start() + Duration::from_secs(SECONDS.unsigned_abs());
        Duration::try_from(next.duration_since(now)).unwrap_or(Duration::ZERO)
    }
}

impl fmt::Display for Day {
    /// As the first moment of it, `2026-11-21T00:00:00Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.start().fmt(f)
    }
}

/// Bytes that were used on one day.
#[derive(Debug, Default)]
pub(super) struct DayBytes {
    word: AtomicU64,
}

impl DayBytes {
    pub(super) fn restored(day: Day, bytes: u64) -> Self {
        Self { word: AtomicU64::new(pack(day, bytes)) }
    }

    /// Uses up to `wanted` bytes of what is left of `budget`, and returns how many these are.
    pub(super) fn draw(&self, today: Day, budget: u64, wanted: u64) -> u64 {
        let mut drawn = 0;
        self.change(|word| {
            let used = used_on(word, today);
            drawn = budget.min(MOST).saturating_sub(used).min(wanted);
            if drawn > 0 { pack(today, used + drawn) } else { on(word, today) }
        });
        drawn
    }

    pub(super) fn used(&self, today: Day) -> u64 {
        self.change(|word| on(word, today));
        used_on(self.word.load(Ordering::Relaxed), today)
    }

    fn change(&self, mut to: impl FnMut(u64) -> u64) {
        let changed = |word| Some(to(word)).filter(|changed| *changed != word);
        // Refused is only that nothing changes.
        let _ = self.word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, changed);
    }
}

/// What was used on a day that is still to come was used today: the clock was wrong, and would
/// keep it until that day.
fn on(word: u64, today: Day) -> u64 {
    if day_of(word) > today.0 { pack(today, word & MOST) } else { word }
}

fn used_on(word: u64, today: Day) -> u64 {
    if day_of(word) < today.0 { 0 } else { word & MOST }
}

fn day_of(word: u64) -> u16 {
    u16::try_from(word >> BYTE_BITS).unwrap_or(u16::MAX)
}

fn pack(day: Day, bytes: u64) -> u64 {
    u64::from(day.0) << BYTE_BITS | bytes.min(MOST)
}

const SECONDS: i64 = 24 * 60 * 60;
const BYTE_BITS: u32 = 48;
/// The largest budget that can be counted.
pub(super) const MOST: u64 = (1 << BYTE_BITS) - 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MONDAY: Day = Day(20_000);
    const TUESDAY: Day = Day(20_001);

    #[test]
    fn a_day_is_that_of_utc() {
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        let day = Day::of(time("2026-11-21T23:59:59.9Z"));
        assert_eq!(day.to_string(), "2026-11-21T00:00:00Z");
        assert_eq!(day.left(time("2026-11-21T23:59:58.5Z")), Duration::from_millis(1500));
        assert_eq!(Day::of(time("2026-11-22T00:00:00Z")), Day(day.0 + 1));
        assert_eq!(Day::of(time("2026-11-22T01:30:00+02:00")), day);
        assert_eq!(Day::of(Timestamp::MIN), Day(0));
        assert_eq!(Day::of(Timestamp::MAX), Day(u16::MAX));
    }

    #[test]
    fn what_is_left_is_drawn_and_not_a_byte_more() {
        let bytes = DayBytes::default();
        assert_eq!(bytes.draw(MONDAY, 1000, 600), 600);
        assert_eq!(bytes.draw(MONDAY, 1000, 600), 400);
        assert_eq!(bytes.draw(MONDAY, 1000, 600), 0);
        assert_eq!(bytes.used(MONDAY), 1000);
        assert_eq!(bytes.draw(MONDAY, 1001, 600), 1, "a larger budget takes effect at once");
        assert_eq!(bytes.draw(MONDAY, 10, 600), 0, "and so does a smaller one");
    }

    #[test]
    fn the_next_day_begins_anew_and_an_earlier_one_does_not() {
        let bytes = DayBytes::restored(MONDAY, 900);
        assert_eq!(bytes.used(TUESDAY), 0);
        assert_eq!(bytes.draw(TUESDAY, 1000, 700), 700);
        assert_eq!(bytes.used(MONDAY), 700, "a clock that is set back keeps what was used");
        assert_eq!(bytes.draw(MONDAY, 1000, 700), 300);
    }

    #[test]
    fn a_clock_that_was_ahead_takes_one_day_and_not_all_until_then() {
        const AHEAD: Day = Day(20_400);
        for asks in [
            |bytes: &DayBytes| bytes.draw(MONDAY, 1000, 1),
            |bytes: &DayBytes| 1000 - bytes.used(MONDAY),
        ] {
            let bytes = DayBytes::restored(AHEAD, 1000);
            assert_eq!(asks(&bytes), 0, "it is used up today");
            assert_eq!(bytes.used(TUESDAY), 0, "and not tomorrow");
            assert_eq!(bytes.draw(TUESDAY, 1000, 600), 600);
        }
    }

    #[test]
    fn the_largest_budget_is_what_the_word_holds() {
        let bytes = DayBytes::restored(MONDAY, MOST - 5);
        assert_eq!(bytes.draw(MONDAY, u64::MAX, 10), 5);
        assert_eq!(bytes.draw(MONDAY, u64::MAX, 10), 0);
        assert_eq!(bytes.used(MONDAY), MOST);
    }

    #[test]
    fn many_threads_draw_no_more_than_the_budget() {
        let bytes = DayBytes::default();
        let drawn: u64 = std::thread::scope(|scope| {
            let draw = || (0..2000).map(|_| bytes.draw(MONDAY, 5000, 7)).sum::<u64>();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(draw)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(drawn, 5000);
    }

    proptest! {
        #[test]
        fn a_day_never_passes_more_than_its_budget(
            budget in 0_u64..10_000,
            draws in prop::collection::vec((0_u16..3, 0_u64..4000), 0..50),
        ) {
            let bytes = DayBytes::default();
            let (mut day, mut used) = (1, 0);
            for (later, wanted) in draws {
                if later > 0 {
                    (day, used) = (day + later, 0);
                }
                let drawn = bytes.draw(Day(day), budget, wanted);
                used += drawn;
                prop_assert!(drawn <= wanted && used <= budget);
                prop_assert!(drawn == wanted || used == budget, "and gives what there is");
            }
        }
    }
}
