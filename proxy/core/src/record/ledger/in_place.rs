//! Notices a segment that somebody else has removed, moved away or changed under the writer.
//!
//! What was written to it then would be acknowledged, and nobody could ever read it. So the place
//! is looked at before each batch, and the next segment is begun where the file is another one or
//! not as long as it was left. The chain goes on there, and says in its first own line what is
//! missing; whoever verifies finds the gap, which the record explains and does not excuse.

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt,
    path::Path,
};

use super::{Ledger, RecordError, rotation::begin, sync_directory};
use crate::record::{
    event::Event,
    folder,
    line::MissingLine,
    segments::{segment, segment_name},
    time,
};

impl Ledger {
    /// Goes on in the next segment if this one is not there any more, as it was left.
    pub(super) fn stay_in_place(&mut self) -> Result<(), RecordError> {
        let done = match self.is_in_place() {
            Ok(true) => return Ok(()),
            Ok(false) => self.begin_elsewhere(),
            Err(error) => Err(error),
        };
        done.map_err(|error| {
            self.stands(Some(&error));
            RecordError::Write(error.into())
        })
    }

    fn is_in_place(&self) -> io::Result<bool> {
        let path = segment(&self.settings.directory, self.number);
        Ok(self.file.metadata()?.len() == self.length && self.is_at(&path)?)
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        let there = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            there => there?,
        };
        let open = self.file.metadata()?;
        Ok((there.dev(), there.ino()) == (open.dev(), open.ino()))
    }

    fn begin_elsewhere(&mut self) -> io::Result<()> {
        let directory = self.settings.directory.clone();
        // It may be another directory by now.
        folder::judge(&directory).map_err(io::Error::other)?;
        let number = self.number.checked_add(1).ok_or(ErrorKind::FileTooLarge)?;
        let file = begin(&segment(&directory, number))?;
        sync_directory(&directory)?;
        let missing = segment_name(self.number);
        if let Err(error) = self.file.sync_data() {
            // Whoever has moved it away may want it.
            tracing::warn!(%error, segment = missing, "bring the rest of a segment to the disk");
        }
        let old = segment(&directory, self.number);
        // A segment without a line would be in the way when old ones are removed.
        if self.file.metadata()?.len() == 0 && self.is_at(&old)? {
            fs::remove_file(old)?;
        }
        (self.file, self.number, self.length) = (file, number, 0);
        self.full_at = self.settings.segment;
        self.unsynced = false;
        let now = time(&*self.clock);
        let line = MissingLine { time: &now, event: Event::Missing, segment: &missing };
        self.kept.seal(&mut self.chain, &line);
        tracing::error!(
            segment = missing,
            directory = %directory.display(),
            "a segment of the records was removed, moved or changed by somebody else: the next \
             one was begun, and `egret audit verify` tells the gap"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests;
