//! `[limits]`: bounds that hold for every connection, whatever the policy says.

use std::{num::NonZeroU32, ops::RangeInclusive, time::Duration};

use egret_policy::source::Table;
use egret_proxy::ConnectionLimits;

pub(super) fn read(table: &Table<'_>) -> ConnectionLimits {
    let default = ConnectionLimits::default();
    ConnectionLimits {
        connections: number(table, "connections", default.connections),
        connections_per_worker: number(
            table,
            "connections_per_worker",
            default.connections_per_worker,
        ),
        denials_per_minute: denials(table, default.denials_per_minute),
        head_bytes: head_bytes(table, default.head_bytes),
        header_timeout: duration(table, "header_timeout", default.header_timeout),
        body_idle_timeout: duration(table, "body_idle_timeout", default.body_idle_timeout),
        first_byte_timeout: duration(table, "first_byte_timeout", default.first_byte_timeout),
        connect_timeout: duration(table, "connect_timeout", default.connect_timeout),
        drain_timeout: duration(table, "drain_timeout", default.drain_timeout),
    }
}

fn number(table: &Table<'_>, key: &'static str, default: usize) -> usize {
    let read = table.find(key).and_then(|value| value.integer(CONNECTIONS));
    read.and_then(|at| usize::try_from(at.value).ok()).unwrap_or(default)
}

fn denials(table: &Table<'_>, default: NonZeroU32) -> NonZeroU32 {
    let read = table.find("denials_per_minute").and_then(|value| value.integer(DENIALS));
    let read = read.and_then(|at| u32::try_from(at.value).ok());
    read.and_then(NonZeroU32::new).unwrap_or(default)
}

fn head_bytes(table: &Table<'_>, default: usize) -> usize {
    let Some(value) = table.find("head_bytes") else { return default };
    let Some(bytes) = value.bytes() else { return default };
    if !HEAD_BYTES.contains(&bytes.value) {
        value.problem("`head_bytes` is out of range", "write a size from 1KiB to 1MiB: `64KiB`");
    }
    usize::try_from(bytes.value).unwrap_or(default)
}

fn duration(table: &Table<'_>, key: &'static str, default: Duration) -> Duration {
    table.find(key).and_then(|value| value.duration()).map_or(default, |at| at.value)
}

const CONNECTIONS: RangeInclusive<u64> = 1..=10_000_000;
/// Above, a worker can write more records than a disk takes.
const DENIALS: RangeInclusive<u64> = 1..=1_000_000;
/// Below, ordinary requests are refused; above, strangers are given memory.
const HEAD_BYTES: RangeInclusive<u64> = 1 << 10..=1 << 20;
