//! Reads the files that say what egret may do.
//!
//! A file that runs the proxy is judged on the open descriptor, not by its name, so that it cannot
//! be exchanged between the look and the read. Whoever can write it can open the way out, so
//! `serve` takes only files that belong to its own user or to root and that nobody else may write.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// A file's text under the name by which the operator knows it.
#[derive(Debug, Clone)]
pub(crate) struct SourceText {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

impl SourceText {
    /// Returns the name of the file, for people.
    pub(crate) fn name(&self) -> String {
        self.path.display().to_string()
    }
}

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("read `{}`", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{}` is not UTF-8", path.display())]
    Encoding { path: PathBuf },
    #[error("`{}` may be written by others (mode {mode:03o})", path.display())]
    WritableByOthers { path: PathBuf, mode: u32 },
    #[error(
        "`{}` belongs to user {owner}, who is neither root nor the user that runs egret",
        path.display()
    )]
    OwnedByOther { path: PathBuf, owner: u32 },
}

impl FileError {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Read { path, .. }
            | Self::Encoding { path }
            | Self::WritableByOthers { path, .. }
            | Self::OwnedByOther { path, .. } => path,
        }
    }

    pub(crate) fn fix(&self) -> Option<String> {
        match self {
            Self::Read { source, path } if source.kind() == io::ErrorKind::NotFound => {
                Some(format!("write it, or start with `egret init {}`", folder(path).display()))
            }
            Self::Read { .. } => None,
            Self::Encoding { .. } => Some("save it as UTF-8".to_owned()),
            Self::WritableByOthers { path, .. } => {
                Some(format!("run `chmod go-w {}`", path.display()))
            }
            Self::OwnedByOther { path, .. } => {
                Some(format!("run `chown {} {}`", own_user(), path.display()))
            }
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
    Ok(open(path)?.1)
}

/// Reads a file to run by it; refuses one that others may write.
pub(crate) fn read_guarded(path: &Path) -> Result<SourceText, FileError> {
    let (file, text) = open(path)?;
    guard(path, &file)?;
    Ok(text)
}

/// Says what keeps [`read_guarded`] from taking a file that was read.
pub(crate) fn check_guard(path: &Path) -> Result<(), FileError> {
    let file = File::open(path).map_err(|source| cannot_read(path, source))?;
    guard(path, &file)
}

fn open(path: &Path) -> Result<(File, SourceText), FileError> {
    let cannot = |source| cannot_read(path, source);
    let mut file = File::open(path).map_err(cannot)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(cannot)?;
    let text =
        String::from_utf8(bytes).map_err(|_| FileError::Encoding { path: path.to_owned() })?;
    Ok((file, SourceText { path: path.to_owned(), text }))
}

fn guard(path: &Path, file: &File) -> Result<(), FileError> {
    let metadata = file.metadata().map_err(|source| cannot_read(path, source))?;
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
    FileError::Read { path: path.to_owned(), source }
}

/// The folder that a file is in; never empty.
pub(crate) fn folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        Some(_) | None => PathBuf::from("."),
    }
}
