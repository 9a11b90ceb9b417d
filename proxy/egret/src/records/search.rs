//! Finds a place in many gigabytes of records without reading them.
//!
//! Lines stand nearly in the order of their times, and an id says when its exchange began. So a
//! segment is chosen by the time of its first line, and a place in it by halving; [`SLACK`] is for
//! lines that waited for the writer. A clock that was set back can make that miss, so an id that
//! is not found from there on is looked for in what comes before.

use std::{
    fs::File,
    io::{BufReader, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use egret_policy::Timestamp;

use super::{
    Forward, Record, RecordsError, Skipped, Trail,
    forward::{Taken, opened, take_line},
    time::of_id,
};

/// How many seconds a line may stand behind one that is older.
const SLACK: i64 = 10;
/// A place is good enough when what is read in vain is less than this.
const NEAR: u64 = 1 << 18;

/// What the records say about one id.
#[derive(Debug, Default)]
pub(crate) struct Search {
    pub(crate) decision: Option<Record>,
    pub(crate) completion: Option<Record>,
    pub(crate) skipped: Skipped,
}

impl Search {
    /// Looks for the records of an id.
    pub(crate) fn id(trail: &Trail, id: &str) -> Result<Self, RecordsError> {
        let mut found = Self::default();
        let begin = match of_id(id) {
            Some(time) => begin(trail, time)?,
            None => (trail.segments()?, 0),
        };
        let from = begin.0.first().cloned();
        found.read(Forward::from(begin.0, begin.1), id)?;
        if found.decision.is_none() && found.completion.is_none() {
            let mut before = trail.segments()?;
            if let Some(from) = from {
                // The first of the others again, since what was passed over in it was not read.
                before.truncate(before.iter().take_while(|path| **path <= from).count());
            }
            found.read(Forward::from(before, 0), id)?;
        }
        Ok(found)
    }

    fn read(&mut self, mut lines: Forward, id: &str) -> Result<(), RecordsError> {
        while let Some(line) = lines.next_line()? {
            // Most lines are another's, and need not be understood for that.
            if !str::from_utf8(line).is_ok_and(|line| line.contains(id)) {
                continue;
            }
            let Some(record) = Record::read(line).filter(|record| record.id.as_deref() == Some(id))
            else {
                continue;
            };
            if record.event == "completion" {
                self.completion = Some(record);
                break;
            }
            if record.is_decision() || record.is_sum() {
                let alone = record.is_sum();
                self.decision = Some(record);
                if alone {
                    break;
                }
            }
        }
        self.skipped = self.skipped.and(lines.skipped());
        Ok(())
    }
}

impl Forward {
    /// Begins with the records of a time, or shortly before.
    pub(crate) fn since(trail: &Trail, time: Timestamp) -> Result<Self, RecordsError> {
        let (segments, offset) = begin(trail, time)?;
        Ok(Self::from(segments, offset))
    }
}

/// The segments that may hold records of a time or later, and where in the first to begin.
fn begin(trail: &Trail, time: Timestamp) -> Result<(Vec<PathBuf>, u64), RecordsError> {
    let time = Timestamp::from_second(time.as_second().saturating_sub(SLACK)).unwrap_or(time);
    let mut segments = trail.segments()?;
    let mut first = segments.len();
    while first > 0 {
        first -= 1;
        let earlier = |(_, at): (u64, Timestamp)| at < time;
        if segments
            .get(first)
            .map(|path| probe(path, 0))
            .transpose()?
            .flatten()
            .is_some_and(earlier)
        {
            break;
        }
    }
    let segments = segments.split_off(first);
    let offset = match segments.first() {
        Some(path) => offset(path, time)?,
        None => 0,
    };
    Ok((segments, offset))
}

/// Where in a segment to begin so that nothing of the time or later is missed.
fn offset(path: &Path, time: Timestamp) -> Result<u64, RecordsError> {
    // Every line before `low` is earlier.
    let (mut low, mut high) = (0, path.metadata().map_or(0, |metadata| metadata.len()));
    while high - low > NEAR {
        let middle = low + (high - low) / 2;
        match probe(path, middle)? {
            Some((start, at)) if at < time && start < high => low = start,
            Some(_) | None => high = middle,
        }
    }
    Ok(low)
}

/// The first record that begins at or after an offset, where it begins and when it was written.
fn probe(path: &Path, offset: u64) -> Result<Option<(u64, Timestamp)>, RecordsError> {
    let file = match opened(path, offset.saturating_sub(1)) {
        Ok(file) => file,
        Err(RecordsError::Absent { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    timed(file, offset).map_err(|source| RecordsError::read(path, source))
}

fn timed(mut file: File, offset: u64) -> std::io::Result<Option<(u64, Timestamp)>> {
    let mut start = offset.saturating_sub(1);
    file.seek(SeekFrom::Start(start))?;
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    // The line that the offset stands in is not whole; one that begins there follows its end.
    let mut whole = offset == 0;
    loop {
        match take_line(&mut reader, &mut line)? {
            Taken::End => return Ok(None),
            Taken::TooLong(bytes) => start += bytes,
            Taken::Line(bytes) => {
                let at = Record::read(&line).filter(|_| whole).and_then(|record| record.at());
                if let Some(at) = at {
                    return Ok(Some((start, at)));
                }
                start += bytes;
            }
        }
        whole = true;
    }
}
