//! Whether the clock can be believed: rules expire by it, certificates are judged by it, and
//! records carry it.
//!
//! A clock that was never set refuses the start, since rules that have expired would be in force
//! again. All else is said and goes on: what is wrong then is denied, or can be told from the
//! records. A reload is never kept from taking effect by the clock; it may be the stricter policy.
//! So a running process asks no disk, but goes by what its clock has said before.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use egret_policy::Timestamp;

use crate::{
    diagnostic::print_warning,
    records::{Backward, Trail},
};

/// Why the time is hardly what the clock says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClockDoubt {
    #[error("the clock has never been set: it says {now:.0}")]
    NeverSet { now: Timestamp },
    #[error("the clock is behind: it says {now:.0}, and this release is of {RELEASED:.0}")]
    BeforeRelease { now: Timestamp },
    #[error("the clock is behind: it says {now:.0}, and the newest record is of {newest:.0}")]
    BeforeRecords { now: Timestamp, newest: Timestamp },
    #[error("the clock was set back: it says {now:.0}, and from what it said it is {was:.0}")]
    SetBack { now: Timestamp, was: Timestamp },
    #[error("the clock is far ahead: it says {now:.0}")]
    FarAhead { now: Timestamp },
}

impl ClockDoubt {
    /// Returns what follows, and what to do.
    pub(crate) fn fix(&self) -> String {
        let follows = match self {
            Self::NeverSet { .. } => {
                "rules that have expired would be in force again, and no certificate would be \
                 valid; start once the time is set (under systemd, After=time-sync.target)"
            }
            Self::BeforeRelease { .. } | Self::BeforeRecords { .. } | Self::SetBack { .. } => {
                "until it is set, rules expire too late, certificates may seem not to be valid \
                 yet, and records are not in the order of their times"
            }
            Self::FarAhead { .. } => {
                "until it is set, every rule that expires has expired, and no certificate is valid"
            }
        };
        follows.to_owned()
    }
}

/// Judges the clock for the start: refuses one that was never set, and warns of other doubts.
pub(crate) fn judge_at_start(now: Timestamp, records: &Path) -> Result<(), ClockDoubt> {
    match doubt(now, newest(records)) {
        Some(doubt @ ClockDoubt::NeverSet { .. }) => Err(doubt),
        doubt => {
            warn(doubt);
            Ok(())
        }
    }
}

/// What the clock of a running process has said.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Course {
    said: Timestamp,
    at: Instant,
}

impl Course {
    pub(crate) fn begin(now: Timestamp, at: Instant) -> Self {
        Self { said: now, at }
    }

    /// Warns of what is wrong with the clock since it was judged last.
    pub(crate) fn judge(&mut self, now: Timestamp, at: Instant) {
        warn(self.doubt(now, at));
        *self = Self::begin(now, at);
    }

    fn doubt(&self, now: Timestamp, at: Instant) -> Option<ClockDoubt> {
        let passed = at.saturating_duration_since(self.at);
        let was = self.said.checked_add(Duration::from_secs(passed.as_secs())).ok();
        let set_back = was.filter(|was| is_behind(now, *was));
        doubt(now, None).or(set_back.map(|was| ClockDoubt::SetBack { now, was }))
    }
}

fn warn(doubt: Option<ClockDoubt>) {
    if let Some(doubt) = doubt {
        print_warning(&doubt.to_string(), Some(&doubt.fix()));
    }
}

fn doubt(now: Timestamp, newest: Option<Timestamp>) -> Option<ClockDoubt> {
    if now < YEAR_OF_RELEASE {
        return Some(ClockDoubt::NeverSet { now });
    }
    if now >= AGE_TO_COME {
        return Some(ClockDoubt::FarAhead { now });
    }
    if let Some(newest) = newest.filter(|newest| is_behind(now, *newest)) {
        return Some(ClockDoubt::BeforeRecords { now, newest });
    }
    (now < RELEASED).then_some(ClockDoubt::BeforeRelease { now })
}

fn is_behind(now: Timestamp, other: Timestamp) -> bool {
    other.as_second() - now.as_second() > TOLERANCE
}

/// The time of the newest record; what keeps it from being read is said by whoever writes there.
fn newest(records: &Path) -> Option<Timestamp> {
    let trail = Trail::open(records).ok()?;
    let (record, _) = Backward::begin(&trail).ok()?.next_record().ok()??;
    record.at()
}

/// 2026-11-01: no later than any build of this release.
const RELEASED: Timestamp = Timestamp::constant(1_793_491_200, 0);
/// 2026-01-01.
const YEAR_OF_RELEASE: Timestamp = Timestamp::constant(1_767_225_600, 0);
/// 2101-01-01.
const AGE_TO_COME: Timestamp = Timestamp::constant(4_133_980_800, 0);
/// Seconds that a clock may be set back while a process runs.
const TOLERANCE: i64 = 60;

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_clock_is_doubted_for_what_it_cannot_be() {
        let check = |now: &str, newest: Option<&str>, expected: Option<&str>| {
            let found = doubt(at(now), newest.map(at)).map(|doubt| doubt.to_string());
            assert_eq!(found.as_deref(), expected, "{now} {newest:?}");
        };
        check("2026-11-21T18:00:00Z", None, None);
        check("2100-12-31T23:59:59Z", None, None);
        check(
            "1970-01-01T00:00:07Z",
            None,
            Some("the clock has never been set: it says 1970-01-01T00:00:07Z"),
        );
        check(
            "2025-12-31T23:59:59Z",
            Some("2026-11-21T18:00:00Z"),
            Some("the clock has never been set: it says 2025-12-31T23:59:59Z"),
        );
        check(
            "2026-01-01T00:00:00Z",
            None,
            Some(
                "the clock is behind: it says 2026-01-01T00:00:00Z, and this release is of \
                 2026-11-01T00:00:00Z",
            ),
        );
        check(
            "2101-01-01T00:00:00Z",
            None,
            Some("the clock is far ahead: it says 2101-01-01T00:00:00Z"),
        );
        check("2026-11-21T18:00:00Z", Some("2026-11-21T18:01:00Z"), None);
        check(
            "2026-11-21T18:00:00Z",
            Some("2026-11-21T18:01:01Z"),
            Some(
                "the clock is behind: it says 2026-11-21T18:00:00Z, and the newest record is of \
                 2026-11-21T18:01:01Z",
            ),
        );
    }

    #[test]
    fn a_running_clock_is_doubted_once_for_going_back() {
        let begin = Instant::now();
        let hour = begin + Duration::from_secs(3600);
        let mut course = Course::begin(at("2026-11-21T18:00:00Z"), begin);
        assert_eq!(course.doubt(at("2026-11-21T18:59:00Z"), hour), None);
        assert_eq!(course.doubt(at("2026-11-23T00:00:00Z"), hour), None);
        let back = at("2026-11-21T18:58:59Z");
        let doubt = course.doubt(back, hour).unwrap();
        assert_eq!(doubt, ClockDoubt::SetBack { now: back, was: at("2026-11-21T19:00:00Z") });
        course.judge(back, hour);
        assert_eq!(course.doubt(back, hour), None);
        let ahead = course.doubt(at("2999-01-01T00:00:00Z"), hour).unwrap();
        assert!(matches!(ahead, ClockDoubt::FarAhead { .. }));
    }

    #[test]
    fn only_a_clock_that_was_never_set_refuses_the_start() {
        let nothing = Path::new("/nowhere");
        assert!(judge_at_start(at("2001-01-01T00:00:00Z"), nothing).is_err());
        assert!(judge_at_start(at("2026-01-01T00:00:00Z"), nothing).is_ok());
        assert!(judge_at_start(at("2999-01-01T00:00:00Z"), nothing).is_ok());
    }

    #[test]
    fn the_newest_record_is_the_last_whole_line() {
        let folder = TempDir::new().unwrap();
        assert_eq!(newest(folder.path()), None);
        let line =
            |seq, time| format!("{{\"seq\":{seq},\"time\":\"{time}\",\"event\":\"policy\"}}\n");
        let text =
            line(0, "2026-11-20T00:00:00Z") + &line(1, "2026-11-21T00:00:00Z") + "{\"seq\":2";
        std::fs::write(folder.path().join("00000001.jsonl"), text).unwrap();
        assert_eq!(newest(folder.path()), Some(at("2026-11-21T00:00:00Z")));
    }
}
