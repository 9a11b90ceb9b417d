//! Records from a point on, in the order in which they were written.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufRead, BufReader, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use egret_proxy::LONGEST_LINE;

use super::{Record, RecordsError, Skipped, Trail};
use crate::files;

const BLOCK: usize = 1 << 18;

/// Reads lines, segment after segment.
#[derive(Debug)]
pub(crate) struct Forward {
    waiting: VecDeque<PathBuf>,
    /// Where to begin in the first of them.
    begin: u64,
    current: Option<(PathBuf, BufReader<File>)>,
    line: Vec<u8>,
    skipped: Skipped,
    read: u64,
}

impl Forward {
    /// Begins with the oldest record.
    pub(crate) fn all(trail: &Trail) -> Result<Self, RecordsError> {
        Ok(Self::from(trail.segments()?, 0))
    }

    /// Begins at a byte of the first of some segments.
    pub(super) fn from(segments: Vec<PathBuf>, begin: u64) -> Self {
        Self {
            waiting: segments.into(),
            begin,
            current: None,
            line: Vec::new(),
            skipped: Skipped::default(),
            read: 0,
        }
    }

    /// Bytes that have been read so far.
    pub(crate) fn read(&self) -> u64 {
        self.read
    }

    /// Bytes that are still to be read, as far as that is known.
    pub(crate) fn size(&self) -> u64 {
        let size = |path: &Path| path.metadata().map_or(0, |metadata| metadata.len());
        let waiting: u64 = self.waiting.iter().map(|path| size(path)).sum();
        let current = self.current.as_ref().map_or(0, |(path, _)| size(path));
        (waiting + current).saturating_sub(self.begin)
    }

    pub(crate) fn skipped(&self) -> Skipped {
        self.skipped
    }

    /// The next record.
    pub(crate) fn next_record(&mut self) -> Result<Option<Record>, RecordsError> {
        loop {
            match self.next_line()?.map(Record::read) {
                None => return Ok(None),
                Some(Some(record)) => return Ok(Some(record)),
                Some(None) => self.skipped.foreign += 1,
            }
        }
    }

    /// The next whole line, whatever it is, without its end.
    pub(crate) fn next_line(&mut self) -> Result<Option<&[u8]>, RecordsError> {
        loop {
            let Some((path, reader)) = &mut self.current else {
                match self.next_segment()? {
                    Some(opened) => self.current = Some(opened),
                    None => return Ok(None),
                }
                continue;
            };
            let taken = take_line(reader, &mut self.line)
                .map_err(|source| RecordsError::read(path, source))?;
            match taken {
                Taken::Line(bytes) => {
                    self.read += bytes;
                    return Ok(Some(&self.line));
                }
                Taken::TooLong(bytes) => {
                    self.read += bytes;
                    self.skipped.foreign += 1;
                }
                // Of a line that is torn, or being written, there is nothing to tell.
                Taken::End => self.current = None,
            }
        }
    }

    fn next_segment(&mut self) -> Result<Option<(PathBuf, BufReader<File>)>, RecordsError> {
        while let Some(path) = self.waiting.pop_front() {
            let begin = std::mem::take(&mut self.begin);
            match opened(&path, begin) {
                Ok(file) => return Ok(Some((path, BufReader::with_capacity(BLOCK, file)))),
                // Retention has taken it away meanwhile.
                Err(RecordsError::Absent { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

pub(super) fn opened(path: &Path, begin: u64) -> Result<File, RecordsError> {
    let file = files::open_regular(path).and_then(|mut file| {
        file.seek(SeekFrom::Start(begin))?;
        Ok(file)
    });
    file.map_err(|source| RecordsError::read(path, source))
}

/// What was found in front of a reader, and how many bytes that took.
pub(super) enum Taken {
    Line(u64),
    /// A line that is too long to be one of ours, and was passed over.
    TooLong(u64),
    /// No whole line is left.
    End,
}

/// Reads one whole line, without its end, into `line`.
pub(super) fn take_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Taken> {
    line.clear();
    let mut bytes = 0;
    let mut too_long = false;
    loop {
        let block = reader.fill_buf()?;
        if block.is_empty() {
            return Ok(Taken::End);
        }
        let end = block.iter().position(|byte| *byte == b'\n');
        let piece = &block[..end.unwrap_or(block.len())];
        too_long |= line.len() + piece.len() > LONGEST_LINE;
        if too_long {
            line.clear();
        } else {
            line.extend_from_slice(piece);
        }
        let used = piece.len() + usize::from(end.is_some());
        reader.consume(used);
        bytes += used as u64;
        if end.is_some() {
            return Ok(if too_long { Taken::TooLong(bytes) } else { Taken::Line(bytes) });
        }
    }
}
