//! Records as they are written, across rotation, and in the record that is begun anew where the
//! directory, or what is in it, was moved away.
//!
//! Files are asked every [`INTERVAL`] instead of watched: it works on every file system, costs one
//! `read` that finds nothing, and needs no other library. What a failing disk made the writer take
//! back (a batch that was written by half) may be told, since nothing says so; no other line is
//! told twice. A segment that was told is known again by its number and inode, in a directory that
//! is held open, so that another one cannot be taken for it.

use std::{
    collections::BTreeSet,
    fs::{File, Metadata},
    io::{self, BufReader, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Backward, Form, RecordsError, Segment, Trail,
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
    /// The directory that the segments are in.
    directory: Option<File>,
    current: Option<Current>,
    /// Number and inode of each segment in it that was told, or is before those that are.
    told: BTreeSet<(u32, u64)>,
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
    /// Begins after what is there now.
    pub(crate) fn from_now(records: &Path) -> Result<Self, RecordsError> {
        let trail = Trail::open(records)?;
        Self::after(&trail, Backward::begin(&trail)?.end())
    }

    pub(crate) fn after(trail: &Trail, position: &Position) -> Result<Self, RecordsError> {
        let current = match &position.segment {
            Some(path) => Some(Current {
                path: path.clone(),
                file: opened(path, 0)?,
                offset: position.offset,
            }),
            None => None,
        };
        let mut this = Self {
            trail: trail.clone(),
            directory: None,
            current,
            told: BTreeSet::new(),
            line: Vec::new(),
        };
        if trail.form == Form::Directory {
            this.directory = Some(this.open_directory()?);
            let last = this.known();
            let listed = trail.listed()?;
            this.told.extend(listed.iter().filter(|other| Some(other.number) <= last).map(key));
        }
        Ok(this)
    }

    /// Tells every whole line that has been appended since. Where the directory is gone, that is an
    /// error once the present segment is told; the next call goes on with what is there then.
    pub(crate) fn poll<E: From<RecordsError>>(
        &mut self,
        mut told: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            // Asked first: what is in the present segment when there is a next one is all of it.
            let next = self.next_segment();
            if let Some(current) = &mut self.current {
                current.read(&mut self.line, &mut told)?;
            }
            let Some(Next { segment, place }) = next? else { return Ok(()) };
            let offset = match (place, &self.current) {
                (Place::There, Some(current)) => current.offset,
                (Place::There | Place::Begin, _) => 0,
            };
            match opened(&segment.path, 0) {
                Ok(file) => {
                    self.told.insert(key(&segment));
                    self.current = Some(Current { path: segment.path, file, offset });
                }
                Err(RecordsError::Absent { .. }) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn next_segment(&mut self) -> Result<Option<Next>, RecordsError> {
        if self.trail.form == Form::File {
            return Ok(None);
        }
        if !self.same_directory()? {
            self.told.clear();
            self.directory = Some(self.open_directory()?);
        }
        let segments = self.trail.listed()?;
        let there: BTreeSet<_> = segments.iter().map(key).collect();
        self.told.retain(|told| there.contains(told));
        let known = self.known();
        let in_place = self.current.as_ref().is_some_and(Current::is_in_place);
        if !in_place
            && let Some(current) = &self.current
            && let Some(copy) = segments.iter().find(|segment| Some(segment.number) == known)
            && let Some(length) = current.length_of_copy(&copy.path)?
        {
            self.told.extend(segments.iter().filter(|other| other <= &copy).map(key));
            if length >= current.offset {
                return Ok(Some(Next { segment: copy.clone(), place: Place::There }));
            }
        }
        // Where ours is in its place, what is numbered before it was put back by somebody.
        let after = known.filter(|_| in_place);
        let mut segments = segments.into_iter();
        let next = segments
            .find(|segment| Some(segment.number) > after && !self.told.contains(&key(segment)));
        Ok(next.map(|segment| Next { segment, place: Place::Begin }))
    }

    /// The number of the present segment.
    fn known(&self) -> Option<u32> {
        self.current.as_ref().and_then(|current| number(&current.path))
    }

    fn open_directory(&self) -> Result<File, RecordsError> {
        let path = self.trail.path();
        File::open(path).map_err(|source| RecordsError::read(path, source))
    }

    fn same_directory(&self) -> Result<bool, RecordsError> {
        let Some(held) = &self.directory else { return Ok(false) };
        let path = self.trail.path();
        let there = path.metadata().and_then(|there| Ok(is_one(&held.metadata()?, &there)));
        there.map_err(|source| RecordsError::read(path, source))
    }
}

/// What is to be read after the present segment.
struct Next {
    segment: Segment,
    place: Place,
}

/// Where in it to begin.
#[derive(Clone, Copy)]
enum Place {
    Begin,
    /// Where the present one ends, of which it is a copy.
    There,
}

fn key(segment: &Segment) -> (u32, u64) {
    (segment.number, segment.inode)
}

fn is_one(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

fn first_line(mut file: &File) -> io::Result<Option<Vec<u8>>> {
    file.seek(SeekFrom::Start(0))?;
    let mut line = Vec::new();
    match take_line(&mut BufReader::new(file), &mut line)? {
        Taken::Line(_) => Ok(Some(line)),
        Taken::TooLong(_) | Taken::End => Ok(None),
    }
}

impl Current {
    /// Whether its name still leads to it.
    fn is_in_place(&self) -> bool {
        let there = self.path.symlink_metadata();
        self.file.metadata().and_then(|file| Ok(is_one(&file, &there?))).unwrap_or(false)
    }

    /// The length of another file, if that is a copy: no two records begin with the same line.
    fn length_of_copy(&self, path: &Path) -> Result<Option<u64>, RecordsError> {
        let cannot = |source| RecordsError::read(path, source);
        let other = match opened(path, 0) {
            Ok(other) => other,
            Err(RecordsError::Absent { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let first = first_line(&self.file).map_err(cannot)?;
        if first.is_none() || first != first_line(&other).map_err(cannot)? {
            return Ok(None);
        }
        Ok(Some(other.metadata().map_err(cannot)?.len()))
    }

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
        self.file.seek(SeekFrom::Start(self.offset)).map_err(cannot)?;
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
