//! Durations and sizes as people write them: a positive whole number and one unit.

use std::time::Duration;

/// Reads `500ms`, `30s`, `5m`, `1h`, `90d`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let unit = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    // A century is for ever, and stays far from every overflow of clock arithmetic.
    number.checked_mul(unit).filter(|ms| *ms <= CENTURY_MS).map(Duration::from_millis)
}

/// Reads `512B`, `64KiB`, `10MiB`, `1GiB`, `2TiB`.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let shift = match unit {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at(end);
    // `parse` would take a sign, which the digits cannot have.
    digits.parse().ok().filter(|number| *number > 0).map(|number| (number, unit))
}

const CENTURY_MS: u64 = 100 * 366 * 86_400_000;
