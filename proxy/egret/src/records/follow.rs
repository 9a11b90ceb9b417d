//! Records as they are written, across rotation.
//!
//! Files are asked every [`INTERVAL`] instead of watched: it works on every file system, costs one
//! `read` that finds nothing, and needs no other library. What a failing disk made the writer take
//! back (a batch that was written by half) may be told, since nothing says so.

use std::{
    fs::File,
    io::{BufReader, Seek},
    path::PathBuf,
    time::Duration,
};

use super::{
    Form, RecordsError, Trail,
    backward::Position,
    forward::{Taken, opened, take_line},
    number,
};

/// How often to ask for more.
pub(crate) const INTERVAL: Duration = Duration::from_millis(200);

/// Reads what is appended after a position.
#[derive(Debug)]
pub(crate) struct Follow {
    trail: Trail,
    current: Option<Current>,
    line: Vec<u8>,
}

#[derive(Debug)]
struct Current {
    path: PathBuf,
    file: File,
    /// Behind the last line that was told.
    offset: u64,
}

impl Follow {
    pub(crate) fn after(trail: &Trail, position: &Position) -> Result<Self, RecordsError> {
        let current = match &position.segment {
            Some(path) => Some(Current {
                path: path.clone(),
                file: opened(path, 0)?,
                offset: position.offset,
            }),
            None => None,
        };
        Ok(Self { trail: trail.clone(), current, line: Vec::new() })
    }

    /// Tells every whole line that has been appended since.
    pub(crate) fn poll<E: From<RecordsError>>(
        &mut self,
        mut told: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            // Asked first: what is in the present segment when there is a next one is all of it.
            let next = self.next_segment()?;
            if let Some(current) = &mut self.current {
                current.read(&mut self.line, &mut told)?;
            }
            let Some(path) = next else { return Ok(()) };
            match opened(&path, 0) {
                Ok(file) => self.current = Some(Current { path, file, offset: 0 }),
                Err(RecordsError::Absent { .. }) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn next_segment(&self) -> Result<Option<PathBuf>, RecordsError> {
        if self.trail.form == Form::File {
            return Ok(None);
        }
        let known = self.current.as_ref().and_then(|current| number(&current.path));
        let segments = self.trail.segments()?.into_iter();
        Ok(segments.into_iter().find(|path| number(path) > known))
    }
}

impl Current {
    fn read<E: From<RecordsError>>(
        &mut self,
        line: &mut Vec<u8>,
        told: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let cannot = |source| RecordsError::read(&self.path, source);
        // What was taken back was half a batch; what follows stands at an earlier place.
        let length = self.file.metadata().map_err(cannot)?.len();
        self.offset = self.offset.min(length);
        if self.offset == length {
            return Ok(());
        }
        self.file.seek(std::io::SeekFrom::Start(self.offset)).map_err(cannot)?;
        let mut reader = BufReader::new(&self.file);
        loop {
            match take_line(&mut reader, line).map_err(cannot)? {
                Taken::Line(bytes) => {
                    self.offset += bytes;
                    told(line)?;
                }
                Taken::TooLong(bytes) => self.offset += bytes,
                Taken::End => return Ok(()),
            }
        }
    }
}
