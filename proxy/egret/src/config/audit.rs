//! `[audit]`: where exchanges are recorded, for how long, and what happens when they cannot be.

use std::{ops::RangeInclusive, path::Path};

use egret_policy::source::Table;
use egret_proxy::{OnFailure, RecordSettings};

use super::path;

pub(super) fn read(table: Option<&Table<'_>>, state: &Path) -> RecordSettings {
    let directory = table.and_then(|table| path(table, "path"));
    let directory = state.join(directory.as_deref().unwrap_or(Path::new(super::AUDIT)));
    let default = RecordSettings::in_directory(&directory);
    let Some(table) = table else { return default };
    let on_failure = table.find("on_failure").and_then(|value| value.choice(&ON_FAILURE));
    let keep = table.find("keep").and_then(|value| value.duration());
    RecordSettings {
        on_failure: on_failure.map_or(default.on_failure, |at| at.value),
        segment: segment(table, default.segment),
        keep: keep.map_or(default.keep, |at| at.value),
        directory: default.directory,
    }
}

fn segment(table: &Table<'_>, default: u64) -> u64 {
    let Some(value) = table.find("segment") else { return default };
    let Some(bytes) = value.bytes() else { return default };
    if !SEGMENT.contains(&bytes.value) {
        value.problem("`segment` is out of range", "write a size from 64KiB to 1TiB: `256MiB`");
    }
    bytes.value
}

const ON_FAILURE: [(&str, OnFailure); 2] =
    [("refuse", OnFailure::Refuse), ("continue", OnFailure::Continue)];
/// Below, a file is hardly begun before it ends; above, none is ever old enough to go.
const SEGMENT: RangeInclusive<u64> = 64 << 10..=1 << 40;
