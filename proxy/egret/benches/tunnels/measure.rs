//! Clocks, memory and percentiles.

use std::{fs, io, time::Duration};

use rustix::time::{ClockId, clock_gettime};

use crate::role::parse;

/// Nanoseconds on the clock that all processes of the machine share.
pub(crate) fn now() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

/// Nanoseconds that this process has used, in user and system mode.
pub(crate) fn processor_time() -> u64 {
    nanoseconds(ClockId::ProcessCPUTime)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    // Neither clock is ever before zero.
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Bytes of this process that are in memory.
pub(crate) fn resident() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/self/smaps_rollup")?;
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:"));
    let kibibytes: u64 = parse(line.unwrap_or_default().trim_end_matches("kB").trim())?;
    Ok(kibibytes << 10)
}

/// The value below which `share` percent of `values` are, by nearest rank.
pub(crate) fn percentile(values: &[u64], share: usize) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * share).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// Milliseconds with two digits.
pub(crate) fn milliseconds(nanoseconds: u64) -> String {
    format!("{:.2}", Duration::from_nanos(nanoseconds).as_secs_f64() * 1e3)
}
