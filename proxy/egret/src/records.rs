//! Reads record files: one file, or a directory of segments, forwards, backwards, by time or as
//! they grow.
//!
//! Memory does not grow with what is read, and nothing is written. A last line that is only half
//! there is left alone, a segment that retention removes meanwhile is passed over, and lines that
//! are no records are counted, so that whoever asked can be told. Chains and signatures are not
//! checked here: that is for `egret audit verify`.

use std::{
    io,
    os::unix::fs::DirEntryExt,
    path::{Path, PathBuf},
};

use egret_proxy::segment_number;

pub(crate) use self::{
    backward::Backward,
    decisions::Decisions,
    follow::{Follow, INTERVAL},
    forward::Forward,
    record::{Judged, Record},
    search::Search,
    time::{Since, is_id, when},
};
use crate::{
    cli, config,
    diagnostic::print_warning,
    environment::Environment,
    failure::{Exit, Failure, count},
    files,
};

mod backward;
mod decisions;
mod follow;
mod forward;
mod record;
mod search;
mod time;

#[cfg(test)]
mod tests;

/// Why records cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordsError {
    #[error("there are no records at `{}`", path.display())]
    Absent { path: PathBuf },
    #[error("read the records at `{}`", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl RecordsError {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Absent { .. } => Exit::Failure,
            Self::Read { source, .. } => Exit::of_io(source, Exit::Failure),
        }
    }

    fn read(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        if source.kind() == io::ErrorKind::NotFound {
            Self::Absent { path }
        } else {
            Self::Read { path, source }
        }
    }

    pub(crate) fn fix(&self) -> Option<String> {
        match self {
            Self::Absent { .. } => Some(
                "start `egret serve` with the same configuration, or name the file or directory: \
                 `--audit PATH`"
                    .to_owned(),
            ),
            Self::Read { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some(files::AS_A_READER.to_owned())
            }
            Self::Read { .. } => None,
        }
    }
}

/// Where records are: a directory of segments, or one file.
#[derive(Debug, Clone)]
pub(crate) struct Trail {
    path: PathBuf,
    form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Directory,
    File,
}

impl Trail {
    pub(crate) fn open(path: &Path) -> Result<Self, RecordsError> {
        let metadata = path.metadata().map_err(|source| RecordsError::read(path, source))?;
        let form = if metadata.is_dir() { Form::Directory } else { Form::File };
        Ok(Self { path: path.to_owned(), form })
    }

    /// The records that the command line names, or those of the configuration.
    pub(crate) fn named(
        source: &cli::RecordSource,
        environment: &Environment,
    ) -> Result<Self, Failure> {
        if let Some(path) = &source.audit {
            return Ok(Self::open(path)?);
        }
        let config = config::to_judge_by(source.config.path.as_deref(), environment)?;
        Ok(Self::open(&config.audit.directory)?)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The files that there are, the oldest first.
    fn segments(&self) -> Result<Vec<PathBuf>, RecordsError> {
        match self.form {
            Form::Directory => Ok(self.listed()?.into_iter().map(|segment| segment.path).collect()),
            // Whoever names a link means the file; one among segments is none of them.
            Form::File => match self.path.canonicalize() {
                Ok(path) => Ok(vec![path]),
                Err(source) => Err(RecordsError::read(&self.path, source)),
            },
        }
    }

    /// The segments of the directory, the oldest first.
    fn listed(&self) -> Result<Vec<Segment>, RecordsError> {
        let cannot = |source| RecordsError::read(&self.path, source);
        let mut segments = Vec::new();
        for entry in self.path.read_dir().map_err(cannot)? {
            let entry = entry.map_err(cannot)?;
            let path = entry.path();
            if let Some(number) = number(&path) {
                segments.push(Segment { number, inode: entry.ino(), path });
            }
        }
        segments.sort_unstable();
        Ok(segments)
    }
}

/// A file of a directory of records.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Segment {
    number: u32,
    inode: u64,
    path: PathBuf,
}

/// Whatever has no number is none of ours.
fn number(path: &Path) -> Option<u32> {
    segment_number(path.file_name()?.to_str()?)
}

/// What was there and is not told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Skipped {
    /// Lines that are no records.
    pub(crate) foreign: u64,
}

impl Skipped {
    pub(crate) fn and(self, other: Self) -> Self {
        Self { foreign: self.foreign + other.foreign }
    }

    /// Says on stderr what was left out, if anything was.
    pub(crate) fn tell(self, trail: &Trail) {
        if self.foreign == 0 {
            return;
        }
        let lines = count(self.foreign, "line");
        print_warning(
            &format!("{lines} of `{}` are no records and were left out", trail.path.display()),
            Some("`egret audit verify` finds out where"),
        );
    }
}
