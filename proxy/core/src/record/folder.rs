//! The directory of a record, and the files in it, judged on what is open and not by their names.
//!
//! Whoever may write there can have all records written into a file of his own, or something of
//! ours overwritten. So the directory and what is in it must belong to egret's user or to root,
//! and nobody else may write to them. A sticky directory, as the root of a fresh volume is, will
//! do: others may add files there, each of which is refused, and can touch none of ours. A symbolic
//! link is not followed, and what is no file is neither waited for nor read. The directories above
//! are not judged here.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

use rustix::{
    fs::{FlockOperation, OFlags, flock},
    io::Errno,
};

use super::end::OpenError;

/// Makes the directory, with mode 0700, if it is not there, and takes it for one recorder as long
/// as what is returned is open.
pub(super) fn take(directory: &Path) -> Result<File, OpenError> {
    let using = |error| OpenError::using(directory, error);
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(using)?;
    judge(directory)?;
    // The directory itself could be locked by whoever may list it.
    let path = directory.join(LOCK);
    let lock = write_over(&path)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(Errno::WOULDBLOCK) => Err(OpenError::InUse { directory: directory.to_owned() }),
        Err(error) => Err(OpenError::using(&path, error.into())),
    }
}

/// Refuses a directory that somebody else may write.
pub(super) fn judge(directory: &Path) -> Result<(), OpenError> {
    let opened = File::open(directory).map_err(|error| OpenError::using(directory, error))?;
    guard(directory, &opened)
}

/// Opens a file to read it.
pub(super) fn read(path: &Path) -> Result<File, OpenError> {
    open(path, OpenOptions::new().read(true))
}

/// Opens a file to write after its end; makes it if it is not there.
pub(super) fn append(path: &Path) -> Result<File, OpenError> {
    open(path, OpenOptions::new().read(true).append(true).create(true))
}

/// Opens a file to read it and to write over what is there; makes it if it is not there.
pub(super) fn write_over(path: &Path) -> Result<File, OpenError> {
    open(path, OpenOptions::new().read(true).write(true).create(true).truncate(false))
}

/// Writes a file anew; one that is there, whatever it is, is removed and not written to.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), OpenError> {
    let using = |error| OpenError::using(path, error);
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(using(error)),
        Ok(()) | Err(_) => {}
    }
    let mut file = open(path, OpenOptions::new().write(true).create_new(true))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(using)
}

fn open(path: &Path, options: &mut OpenOptions) -> Result<File, OpenError> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let options = options.mode(0o600).custom_flags(flags.bits() as i32);
    let file = options.open(path).map_err(|error| OpenError::using(path, error))?;
    if !file.metadata().map_err(|error| OpenError::using(path, error))?.is_file() {
        return Err(OpenError::NoFile { path: path.to_owned() });
    }
    guard(path, &file)?;
    Ok(file)
}

fn guard(path: &Path, opened: &File) -> Result<(), OpenError> {
    let metadata = opened.metadata().map_err(|error| OpenError::using(path, error))?;
    let (mode, owner) = (metadata.mode() & 0o777, metadata.uid());
    let is_sticky = metadata.is_dir() && metadata.mode() & STICKY != 0;
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(OpenError::OwnedByOther { path: path.to_owned(), owner });
    }
    if mode & 0o022 != 0 && !is_sticky {
        return Err(OpenError::WritableByOthers { path: path.to_owned(), mode });
    }
    Ok(())
}

const STICKY: u32 = 0o1000;
/// Only who may open it for writing can lock it in our place, and that is nobody else.
const LOCK: &str = "audit.lock";

#[cfg(test)]
mod tests;
