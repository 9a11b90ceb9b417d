//! Ends segments that are long enough, and removes those that are old enough.
//!
//! A segment ends in a signed head, and its successor goes on with the same chain. Segments are
//! removed from the oldest on, the newest never, and each removal is on record before it happens:
//! whoever verifies what is left can tell it from a beginning that was cut off. Nothing is removed
//! while the clock says that all is old: it is more likely to be wrong.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, ErrorKind, Read},
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use egret_policy::Timestamp;

use super::{Ledger, sync_directory};
use crate::caused::caused;
use crate::record::{
    chain::Chain,
    event::Event,
    folder,
    head::Removal,
    line::RemovedLine,
    segments::{segment, segment_name, segments},
    strict, time, verify,
};

impl Ledger {
    /// Ends the segment if it is full. One that cannot be ended goes on: the chain does not depend
    /// on where a file ends.
    pub(super) fn rotate(&mut self) {
        if self.length < self.full_at {
            return;
        }
        if let Err(error) = self.begin_next() {
            tracing::error!(error = %caused(&error), "begin the next segment of the records");
            self.full_at = self.length + self.settings.segment / 16;
            return;
        }
        self.remove_old();
    }

    fn begin_next(&mut self) -> io::Result<()> {
        // Before this one is ended, so that there is always one to write to.
        let (number, file) = self.begin_after()?;
        self.sign().map_err(io::Error::other)?;
        if self.number == number {
            // This one was no longer in its place, and the next is begun already.
            return Ok(());
        }
        sync_directory(&self.settings.directory)?;
        self.go_on_in(number, file);
        Ok(())
    }

    /// Begins the segment after this one.
    pub(super) fn begin_after(&self) -> io::Result<(u32, File)> {
        let number = self.number.checked_add(1).ok_or(ErrorKind::FileTooLarge)?;
        Ok((number, begin(&segment(&self.settings.directory, number))?))
    }

    /// Goes on in a segment that was begun, and leaves nothing in this one to be synced.
    pub(super) fn go_on_in(&mut self, number: u32, file: File) {
        (self.file, self.number, self.length) = (file, number, 0);
        self.full_at = self.settings.segment;
        self.unsynced = false;
    }

    /// Removes the segments whose last line is older than `keep`.
    pub(in crate::record) fn remove_old(&mut self) {
        if let Err(error) = self.remove_older_than_kept() {
            tracing::error!(error = %caused(&error), "remove old segments of the records");
        }
    }

    fn remove_older_than_kept(&mut self) -> io::Result<()> {
        let directory = self.settings.directory.clone();
        let now = self.clock.now();
        if !self.believes(now) {
            tracing::warn!(
                clock = %now,
                newest = %self.believed.time,
                "no old records are removed: the clock is far ahead of what it was"
            );
            return Ok(());
        }
        let now = SystemTime::from(now);
        for pair in segments(&directory)?.windows(2) {
            let &[old, next] = pair else { break };
            let path = segment(&directory, old);
            let written = path.metadata()?.modified()?;
            // A time to come is not old.
            let age = now.duration_since(written).unwrap_or_default();
            if old >= self.number || age < self.settings.keep {
                break;
            }
            let begin = if next == self.number && self.length == 0 {
                self.chain
            } else {
                first(&segment(&directory, next))?
            };
            self.catch_up().map_err(io::Error::other)?;
            let removal = Removal {
                time: &time(&*self.clock),
                segment: &segment_name(old),
                begins_at: begin.seq,
                begins_after: &begin.prev.to_string(),
            };
            let (key, signature) = (self.key.public(), self.key.sign_removal(&removal));
            let Removal { time, segment, begins_at, begins_after } = removal;
            self.put_record(&RemovedLine {
                time,
                event: Event::Removed,
                segment,
                begins_at,
                begins_after,
                key: &key.to_string(),
                signature: &signature,
            })
            .map_err(io::Error::other)?;
            self.sync().map_err(io::Error::other)?;
            fs::remove_file(&path)?;
            tracing::info!(segment = segment_name(old), "removed old records");
        }
        sync_directory(&directory)
    }
}

impl Ledger {
    /// Whether records may be removed by this time.
    fn believes(&mut self, now: Timestamp) -> bool {
        let Believed { time, since, leap } = self.believed;
        let passed = since.elapsed();
        let apart = SystemTime::from(now).duration_since(time.into()).unwrap_or_default();
        if apart.saturating_sub(passed) > leap && passed < NOTICED {
            return false;
        }
        self.believed = Believed::by_clock(now, self.settings.keep);
        true
    }
}

/// The last time that could be believed, and when that was.
pub(super) struct Believed {
    time: Timestamp,
    since: Instant,
    /// How far ahead of it another may be.
    leap: Duration,
}

impl Believed {
    /// Before the clock is asked: nobody knows how long egret was off. A time that is further ahead
    /// than records are kept would remove all but the newest segment; whoever was off for so long
    /// waits for a day.
    pub(super) fn by_newest(newest: Timestamp, keep: Duration) -> Self {
        Self { time: newest, since: Instant::now(), leap: keep }
    }

    /// From here on it is known how long it was; a machine that sleeps for longer waits as above.
    pub(super) fn by_clock(now: Timestamp, keep: Duration) -> Self {
        Self { time: now, since: Instant::now(), leap: LEAP.min(keep) }
    }
}

/// How far a clock is set that was nearly right.
const LEAP: Duration = Duration::from_hours(1);
/// By when a clock that is far ahead has been set right.
const NOTICED: Duration = Duration::from_hours(24);

/// Begins a segment; one that an attempt before this has left is as good, if nothing is in it.
fn begin(path: &Path) -> io::Result<File> {
    let file = folder::append(path).map_err(io::Error::other)?;
    match file.metadata()?.len() {
        0 => Ok(file),
        _ => Err(ErrorKind::AlreadyExists.into()),
    }
}

/// What the first line of a segment continues.
fn first(path: &Path) -> io::Result<Chain> {
    let file = folder::read(path).map_err(io::Error::other)?;
    let mut line = Vec::new();
    let mut file = BufReader::new(file.take(verify::LONGEST as u64));
    file.read_until(b'\n', &mut line)?;
    let line = line.strip_suffix(b"\n").unwrap_or(&line);
    let line = strict::read(line).map_err(io::Error::other)?;
    Ok(Chain { seq: line.said.seq, prev: line.prev })
}
