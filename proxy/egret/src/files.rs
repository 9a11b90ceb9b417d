//! Reads the files that say what egret may do.
//!
//! A file that runs the proxy is judged on the open descriptor, not by its name, so that it cannot
//! be exchanged between the look and the read. Whoever can write it can open the way out, so
//! `serve` takes only files that belong to its own user or to root and that nobody else may write,
//! or exchange for another.

use std::{
    fs::{File, Metadata},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use egret_policy::source::{Problem, Span};
use rustix::fs::OFlags;

use crate::{failure::Exit, starter};

pub(crate) use self::way::{Step, walk};

mod way;

/// The longest file that is read: far above any that people or their programs write.
const LONGEST: u64 = 32 << 20;

/// How what exists and may not be read is read.
pub(crate) const AS_A_READER: &str = "run as a user who may read it, as egret's own";

/// A file's text under the name by which the operator knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceText {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

impl SourceText {
    /// Returns the name of the file, for people.
    pub(crate) fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Says something of a place in the text.
    pub(crate) fn problem(&self, span: Span, message: String, fix: &str) -> Problem {
        let before = &self.text[..span.start];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Problem {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            span,
            message,
            fix: fix.to_owned(),
        }
    }
}

/// What a file has that is another's, or another, once it has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marks {
    file: (u64, u64),
    length: u64,
    times: [i64; 4],
}

impl Marks {
    pub(crate) fn of(file: &Metadata) -> Self {
        let times = [file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()];
        Self { file: (file.dev(), file.ino()), length: file.len(), times }
    }
}

/// Why a file was not read.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum FileError {
    #[error("read `{}`", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: Arc<io::Error>,
    },
    #[error("`{}` is not UTF-8", path.display())]
    Encoding { path: PathBuf },
    #[error("`{}` is not a file", path.display())]
    Kind { path: PathBuf },
    #[error("`{}` may be written by others (mode {mode:03o})", path.display())]
    WritableByOthers { path: PathBuf, mode: u32 },
    #[error(
        "`{}` belongs to user {owner}, who is neither root nor the user that runs egret",
        path.display()
    )]
    OwnedByOther { path: PathBuf, owner: u32 },
    #[error("`{}` is longer than {} MiB", path.display(), most >> 20)]
    Long { path: PathBuf, most: u64 },
    #[error(
        "others may exchange what is in `{}` (mode {mode:03o}), which is on the way to a file that \
         egret runs by",
        folder.display()
    )]
    FolderOpenToOthers { folder: PathBuf, mode: u32 },
    #[error(
        "`{}`, which is on the way to a file that egret runs by, belongs to user {owner}, who is \
         neither root nor the user that runs egret",
        folder.display()
    )]
    FolderOfOther { folder: PathBuf, owner: u32 },
}

impl FileError {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Read { source, .. } => Exit::of_io(source, Exit::Configuration),
            Self::Encoding { .. }
            | Self::Kind { .. }
            | Self::WritableByOthers { .. }
            | Self::OwnedByOther { .. }
            | Self::Long { .. }
            | Self::FolderOpenToOthers { .. }
            | Self::FolderOfOther { .. } => Exit::Configuration,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Read { path, .. }
            | Self::Encoding { path }
            | Self::Kind { path }
            | Self::WritableByOthers { path, .. }
            | Self::OwnedByOther { path, .. }
            | Self::Long { path, .. }
            | Self::FolderOpenToOthers { folder: path, .. }
            | Self::FolderOfOther { folder: path, .. } => path,
        }
    }

    pub(crate) fn fix(&self) -> Option<String> {
        match self {
            Self::Read { source, path } if source.kind() == io::ErrorKind::NotFound => {
                let is_started_with = starter::NAMES.iter().any(|name| path.ends_with(name));
                Some(if is_started_with {
                    format!("write it, or start with `egret init {}`", folder(path).display())
                } else {
                    "name the file that was meant".to_owned()
                })
            }
            Self::Read { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some(AS_A_READER.to_owned())
            }
            Self::Read { source, .. } if source.kind() == io::ErrorKind::IsADirectory => {
                Some("name a file in it".to_owned())
            }
            Self::Read { .. } => None,
            Self::Kind { .. } => Some("put the text into a file of its own".to_owned()),
            Self::Encoding { .. } => Some("save it as UTF-8".to_owned()),
            Self::WritableByOthers { path, .. } => {
                Some(format!("run `chmod go-w {}`", path.display()))
            }
            Self::OwnedByOther { path, .. } => {
                Some(format!("run `chown {} {}`", own_user(), path.display()))
            }
            Self::Long { .. } => Some("name the file that was meant".to_owned()),
            Self::FolderOpenToOthers { folder, .. } => Some(format!(
                "run `chmod go-w {}`, mount it read-only, or put the file elsewhere",
                folder.display()
            )),
            Self::FolderOfOther { folder, .. } => Some(format!(
                "run `chown {} {}`, or put the file elsewhere",
                own_user(),
                folder.display()
            )),
        }
    }
}

/// Whether there is something of that name, or something that keeps us from knowing.
pub(crate) fn is_there(path: &Path) -> bool {
    const ABSENT: [io::ErrorKind; 2] = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
    path.symlink_metadata().err().is_none_or(|error| !ABSENT.contains(&error.kind()))
}

/// Reads a file to judge it, whoever may write it.
pub(crate) fn read(path: &Path) -> Result<SourceText, FileError> {
    read_within(path, LONGEST)
}

/// Reads a file of which no more is made than of that many bytes.
pub(crate) fn read_within(path: &Path, most: u64) -> Result<SourceText, FileError> {
    let file = File::open(path).map_err(|source| cannot_read(path, source))?;
    text(path, file, most)
}

/// Reads a file that need not be text.
pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>, FileError> {
    bytes(path, File::open(path).map_err(|source| cannot_read(path, source))?, LONGEST)
}

/// Reads a file to run by it; refuses one that others may write.
pub(crate) fn read_guarded(path: &Path) -> Result<SourceText, FileError> {
    let file = open(path)?;
    guard(path, &file)?;
    way::guard(path)?;
    text(path, file, LONGEST)
}

/// Says what keeps [`read_guarded`] from taking a file that was read.
pub(crate) fn check_guard(path: &Path) -> Result<(), FileError> {
    guard(path, &open(path)?)?;
    way::guard(path)
}

/// Opens a file without waiting: what is no file may be a pipe that nobody writes to.
fn open(path: &Path) -> Result<File, FileError> {
    let mut options = File::options();
    let options = options.read(true).custom_flags(OFlags::NONBLOCK.bits() as i32);
    options.open(path).map_err(|source| cannot_read(path, source))
}

/// Opens a file in a directory whose other contents may be anybody's: what is no file, like a pipe
/// that nobody writes to, is refused and not waited for; so is a link to another place.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let file = options.read(true).custom_flags(flags.bits() as i32).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file")),
    }
}

fn text(path: &Path, file: File, most: u64) -> Result<SourceText, FileError> {
    let text = String::from_utf8(bytes(path, file, most)?)
        .map_err(|_| FileError::Encoding { path: path.to_owned() })?;
    Ok(SourceText { path: path.to_owned(), text })
}

fn bytes(path: &Path, file: File, most: u64) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(|source| cannot_read(path, source))?;
    if bytes.len() as u64 > most {
        return Err(FileError::Long { path: path.to_owned(), most });
    }
    Ok(bytes)
}

fn guard(path: &Path, file: &File) -> Result<(), FileError> {
    let metadata = file.metadata().map_err(|source| cannot_read(path, source))?;
    // A directory says so by itself when it is read.
    if !metadata.is_file() && !metadata.is_dir() {
        return Err(FileError::Kind { path: path.to_owned() });
    }
    if metadata.uid() != 0 && metadata.uid() != own_user() {
        return Err(FileError::OwnedByOther { path: path.to_owned(), owner: metadata.uid() });
    }
    if is_writable_by_others(metadata.mode()) {
        return Err(FileError::WritableByOthers {
            path: path.to_owned(),
            mode: metadata.mode() & 0o777,
        });
    }
    Ok(())
}

/// Whether the group or everybody may write.
pub(crate) fn is_writable_by_others(mode: u32) -> bool {
    mode & 0o022 != 0
}

pub(crate) fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn cannot_read(path: &Path, source: io::Error) -> FileError {
    FileError::Read { path: path.to_owned(), source: source.into() }
}

/// The folder that a file is in; never empty.
pub(crate) fn folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        Some(_) | None => PathBuf::from("."),
    }
}
