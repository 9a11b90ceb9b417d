//! Records from the end, the newest first.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use egret_proxy::LONGEST_LINE;

use super::{Record, RecordsError, Skipped, Trail, forward::opened};

const BLOCK: u64 = 1 << 16;

/// Reads lines backwards, segment before segment.
#[derive(Debug)]
pub(crate) struct Backward {
    /// The segments that were not begun, the newest last.
    waiting: Vec<PathBuf>,
    current: Option<Segment>,
    end: Position,
    skipped: Skipped,
}

/// Behind the last whole line that there was when reading began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// None where there was no segment at all.
    pub(super) segment: Option<PathBuf>,
    pub(super) offset: u64,
}

#[derive(Debug)]
struct Segment {
    path: PathBuf,
    file: File,
    /// Where `held` begins in the file.
    start: u64,
    /// What was read and not told: whole lines, but for the beginning of the first one.
    held: Vec<u8>,
}

impl Backward {
    pub(crate) fn begin(trail: &Trail) -> Result<Self, RecordsError> {
        let mut this = Self {
            waiting: trail.segments()?,
            current: None,
            end: Position::default(),
            skipped: Skipped::default(),
        };
        if this.next_segment()?
            && let Some(segment) = &this.current
        {
            let offset = segment.start + segment.held.len() as u64;
            this.end = Position { segment: Some(segment.path.clone()), offset };
        }
        Ok(this)
    }

    /// Where reading began.
    pub(crate) fn end(&self) -> &Position {
        &self.end
    }

    pub(crate) fn skipped(&self) -> Skipped {
        self.skipped
    }

    /// The record before the last one, and its line.
    pub(crate) fn next_record(&mut self) -> Result<Option<(Record, Vec<u8>)>, RecordsError> {
        loop {
            let Some(line) = self.next_line()? else { return Ok(None) };
            match Record::read(&line) {
                Some(record) => return Ok(Some((record, line))),
                None => self.skipped.foreign += 1,
            }
        }
    }

    fn next_line(&mut self) -> Result<Option<Vec<u8>>, RecordsError> {
        loop {
            if let Some(segment) = &mut self.current {
                if let Some(line) = segment.take()? {
                    return Ok(Some(line));
                }
                self.current = None;
            }
            if !self.next_segment()? {
                return Ok(None);
            }
        }
    }

    fn next_segment(&mut self) -> Result<bool, RecordsError> {
        while let Some(path) = self.waiting.pop() {
            match Segment::open(&path) {
                Ok(segment) => {
                    self.current = Some(segment);
                    return Ok(true);
                }
                // Retention has taken it away meanwhile.
                Err(RecordsError::Absent { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}

impl Segment {
    fn open(path: &Path) -> Result<Self, RecordsError> {
        let file = opened(path, 0)?;
        let length = file.metadata().map_err(|source| RecordsError::read(path, source))?.len();
        let mut this = Self { path: path.to_owned(), file, start: length, held: Vec::new() };
        // What follows the last end of a line is torn, or being written.
        loop {
            if let Some(end) = this.held.iter().rposition(|byte| *byte == b'\n') {
                this.held.truncate(end + 1);
                return Ok(this);
            }
            this.held.clear();
            if !this.read_more()? {
                return Ok(this);
            }
        }
    }

    /// Takes the last line that is held, without its end.
    fn take(&mut self) -> Result<Option<Vec<u8>>, RecordsError> {
        // How much of what is held ends in no line: it was searched.
        let mut searched = 1;
        loop {
            let unsearched = self.held.len().saturating_sub(searched);
            let before = self.held[..unsearched].iter().rposition(|byte| *byte == b'\n');
            let begin = match before {
                Some(before) => before + 1,
                None => {
                    searched = self.held.len().max(1);
                    if self.held.len() > LONGEST_LINE {
                        // Too long to be ours, as what is cut from it will turn out to be.
                        self.held = vec![b'\n'];
                        searched = 1;
                    }
                    if self.read_more()? {
                        continue;
                    }
                    0
                }
            };
            if self.held.len() <= begin {
                return Ok(None);
            }
            let mut line = self.held.split_off(begin);
            line.pop();
            return Ok(Some(line));
        }
    }

    /// Puts one block more in front of what is held; false at the beginning of the file.
    fn read_more(&mut self) -> Result<bool, RecordsError> {
        let from = self.start.saturating_sub(BLOCK);
        let mut block = vec![0; usize::try_from(self.start - from).unwrap_or_default()];
        if block.is_empty() {
            return Ok(false);
        }
        self.file
            .read_exact_at(&mut block, from)
            .map_err(|source| RecordsError::read(&self.path, source))?;
        block.append(&mut self.held);
        (self.held, self.start) = (block, from);
        Ok(true)
    }
}
