//! Times: what an id says, what `--since` says, and how times are shown.

use std::time::Duration;

use egret_policy::Timestamp;

/// The alphabet of ids (Crockford's base 32).
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const ID_LENGTH: usize = 26;

/// Whether a text has the form of a record's id.
pub(crate) fn is_id(text: &str) -> bool {
    text.len() == ID_LENGTH && text.bytes().all(|byte| ALPHABET.contains(&byte))
}

/// When an id was made: its first ten digits are milliseconds.
pub(super) fn of_id(id: &str) -> Option<Timestamp> {
    let digits = is_id(id).then(|| &id.as_bytes()[..10])?;
    let milliseconds = digits.iter().try_fold(0_i64, |sum, digit| {
        let value = ALPHABET.iter().position(|one| one == digit)?;
        sum.checked_mul(32)?.checked_add(i64::try_from(value).ok()?)
    });
    Timestamp::from_millisecond(milliseconds?).ok()
}

/// From when on: a time, or how long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Since {
    Time(Timestamp),
    Ago(Duration),
}

impl Since {
    /// Reads `90m`, `24h`, `7d`, `2026-11-21` or `2026-11-21T18:00:00Z`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Ok(time) = text.parse::<Timestamp>() {
            return Ok(Self::Time(time));
        }
        if let Ok(time) = format!("{text}T00:00:00Z").parse::<Timestamp>() {
            return Ok(Self::Time(time));
        }
        let seconds = |unit: char| match unit {
            's' => Some(1),
            'm' => Some(60),
            'h' => Some(60 * 60),
            'd' => Some(24 * 60 * 60),
            _ => None,
        };
        let number = |unit: char| text.strip_suffix(unit)?.parse::<u64>().ok();
        let unit = text.chars().last();
        unit.and_then(|unit| number(unit)?.checked_mul(seconds(unit)?))
            .map(|seconds| Self::Ago(Duration::from_secs(seconds)))
            .ok_or_else(|| {
                "write a time ago such as `90m`, `24h` or `7d`, a day such as `2026-11-21`, or \
                 `2026-11-21T18:00:00Z`"
                    .to_owned()
            })
    }

    pub(crate) fn before(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Time(time) => time,
            Self::Ago(ago) => now.checked_sub(ago).unwrap_or(Timestamp::MIN),
        }
    }
}

/// A recorded time for people: to the second, in UTC.
pub(crate) fn when(time: &str) -> String {
    match time.parse::<Timestamp>() {
        Ok(time) => format!("{time:.0}").replace('T', " ").replace('Z', ""),
        Err(_) => egret_policy::source::shown(time),
    }
}
