//! All decisions of a trail, from a time on, for what goes through them once: said on a terminal
//! how far that has come, and at the end what was passed over.

use egret_policy::Timestamp;

use super::{Forward, Record, RecordsError, Since, Trail};
use crate::progress::Progress;

/// Decisions that are being read.
pub(crate) struct Decisions<'t> {
    trail: &'t Trail,
    records: Forward,
    since: Option<Timestamp>,
    progress: Progress,
}

impl<'t> Decisions<'t> {
    /// Begins with the oldest one, or with the oldest since a time.
    pub(crate) fn of(
        trail: &'t Trail,
        since: Option<Since>,
        now: Timestamp,
    ) -> Result<Self, RecordsError> {
        let since = since.map(|since| since.before(now));
        let records = match since {
            Some(since) => Forward::since(trail, since)?,
            None => Forward::all(trail)?,
        };
        let progress = Progress::of(records.size());
        Ok(Self { trail, records, since, progress })
    }

    /// The next one; what was passed over is told after the last.
    pub(crate) fn next(&mut self) -> Result<Option<Record>, RecordsError> {
        while let Some(record) = self.records.next_record()? {
            self.progress.at(self.records.read());
            let early = self.since.is_some_and(|since| record.at().is_some_and(|at| at < since));
            if record.is_decision() && !early {
                return Ok(Some(record));
            }
        }
        self.progress.end();
        self.records.skipped().tell(self.trail);
        Ok(None)
    }
}
