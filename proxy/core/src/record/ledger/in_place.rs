//! Notices a segment that somebody else has removed, moved away or changed under the writer.
//!
//! What was written to it then would be acknowledged, and nobody could ever read it. So the place
//! is looked at before each batch, and the next segment is begun where the file is another one or
//! not as long as it was left. The chain goes on there, and says in its first own line what is
//! missing; whoever verifies finds the gap, which the record explains and does not excuse.

use std::{
    fs::{self, Metadata},
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt,
    path::Path,
};

use super::{Ledger, RecordError, sync_directory};
use crate::caused::caused;
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
        let open = self.file.metadata()?;
        let path = segment(&self.settings.directory, self.number);
        Ok(open.len() == self.length && is_at(&open, &path)?)
    }

    fn begin_elsewhere(&mut self) -> io::Result<()> {
        let directory = self.settings.directory.clone();
        // It may be another directory by now.
        folder::judge(&directory).map_err(io::Error::other)?;
        let (number, file) = self.begin_after()?;
        sync_directory(&directory)?;
        let missing = segment_name(self.number);
        if let Err(error) = self.file.sync_data() {
            // Whoever has moved it away may want it.
            tracing::warn!(
                error = %caused(&error),
                segment = missing,
                "bring the rest of a segment to the disk"
            );
        }
        let old = segment(&directory, self.number);
        // A segment without a line would be in the way when old ones are removed.
        let open = self.file.metadata()?;
        if open.len() == 0 && is_at(&open, &old)? {
            fs::remove_file(old)?;
        }
        self.go_on_in(number, file);
        let now = time(&*self.clock);
        let line = MissingLine { time: &now, event: Event::Missing, segment: &missing };
        self.kept.seal(&mut self.chain, &line);
        tracing::error!(
            segment = missing,
            records = %directory.display(),
            "a segment of the records was removed, moved or changed by somebody else: the next \
             one was begun, and `egret audit verify` tells the gap"
        );
        Ok(())
    }
}

/// Whether an open file is the one that has this name.
fn is_at(open: &Metadata, path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        there => there.map(|there| (there.dev(), there.ino()) == (open.dev(), open.ino())),
    }
}

#[cfg(test)]
mod tests;
