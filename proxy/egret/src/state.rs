//! The state directory, owned by one process at a time.
//!
//! The lock is the kernel's and ends with the process, however that ends; the number written
//! beside it is only for people. Nothing in the directory is touched before it is known to be one
//! that nobody else can write. What lies there may still be a link that came with a checkout, so no
//! name in it is written through.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, OFlags, flock};

use crate::{
    failure::Exit,
    files::{folder, is_writable_by_others, own_user},
};

/// A state directory that is ours until this is dropped.
#[derive(Debug)]
pub(crate) struct State {
    _lock: File,
}

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error("the state directory `{}` is in use by {owner}", path.display())]
    Locked { path: PathBuf, owner: String },
    #[error("use the state directory `{}`", path.display())]
    Use {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the state directory `{}` may be written by others (mode {mode:03o})", path.display())]
    WritableByOthers { path: PathBuf, mode: u32 },
    #[error(
        "the state directory `{}` belongs to user {owner}, who is neither root nor the user that runs egret",
        path.display()
    )]
    OwnedByOther { path: PathBuf, owner: u32 },
}

impl StateError {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Locked { .. } => Exit::Unavailable,
            Self::Use { source, .. } => Exit::of_io(source, Exit::Failure),
            Self::WritableByOthers { .. } | Self::OwnedByOther { .. } => Exit::Configuration,
        }
    }

    pub(crate) fn fix(&self) -> Option<String> {
        match self {
            Self::Locked { .. } => {
                Some("stop that process, or give this one another `state_dir`".to_owned())
            }
            Self::Use { .. } => {
                Some("let egret's user make and write it, or name another `state_dir`".to_owned())
            }
            Self::WritableByOthers { path, .. } => {
                Some(format!("run `chmod 700 {}`", path.display()))
            }
            Self::OwnedByOther { path, .. } => {
                Some(format!("run `chown` on {}, or name another `state_dir`", path.display()))
            }
        }
    }
}

/// Makes the directory, with mode 0700, if it is not there.
pub(crate) fn create(path: &Path) -> Result<(), StateError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| StateError::Use { path: path.to_owned(), source })
}

/// Refuses a directory in which somebody else could put what we then write to.
pub(crate) fn guard(path: &Path) -> Result<(), StateError> {
    let metadata =
        path.metadata().map_err(|source| StateError::Use { path: path.to_owned(), source })?;
    let (mode, owner) = (metadata.mode(), metadata.uid());
    if owner != 0 && owner != own_user() {
        return Err(StateError::OwnedByOther { path: path.to_owned(), owner });
    }
    if is_writable_by_others(mode) {
        return Err(StateError::WritableByOthers { path: path.to_owned(), mode: mode & 0o777 });
    }
    Ok(())
}

/// Opens a file that only its owner may read; makes it if it is not there. What is there must be a
/// file that has no other name, so that nothing is written that lies elsewhere.
pub(crate) fn open_private(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32)
        .open(path)?;
    let metadata = file.metadata()?;
    let is_owned = metadata.uid() == 0 || metadata.uid() == own_user();
    if !metadata.is_file() || !is_owned || metadata.nlink() > 1 {
        return Err(io::Error::other("it is no file of the state directory's alone"));
    }
    Ok(file)
}

/// Puts a text that anybody may read into a file as a whole, in place of whatever has that name.
pub(crate) fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let (new, _) = written_beside(path, text, 0o644)?;
    fs::rename(new, path)
}

/// The same for what is nobody else's to read; it is on the disk when this returns.
pub(crate) fn keep(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (new, file) = written_beside(path, bytes, 0o600)?;
    file.sync_all()?;
    fs::rename(new, path)?;
    // The name is on disk only when the directory is.
    File::open(folder(path))?.sync_all()
}

/// Writes a file that takes another's place when it is renamed. Only what is made here is written
/// to: what has its name, such as a link to somewhere else, goes.
fn written_beside(path: &Path, bytes: &[u8], mode: u32) -> io::Result<(PathBuf, File)> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    file.write_all(bytes)?;
    Ok((new, file))
}

impl State {
    /// Takes the directory for this process.
    pub(crate) fn lock(path: &Path) -> Result<Self, StateError> {
        let cannot = |source| StateError::Use { path: path.to_owned(), source };
        create(path)?;
        guard(path)?;
        let mut file = open_private(&path.join(LOCK)).map_err(cannot)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut owner = String::new();
                // Unreadable or not yet written: it is locked all the same.
                let _ = file.read_to_string(&mut owner);
                let owner = match owner.trim().parse::<u32>() {
                    Ok(pid) => format!("process {pid}"),
                    Err(_) => "another process".to_owned(),
                };
                return Err(StateError::Locked { path: path.to_owned(), owner });
            }
            Err(error) => return Err(cannot(error.into())),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(cannot)?;
        writeln!(file, "{}", std::process::id()).map_err(cannot)?;
        Ok(Self { _lock: file })
    }
}

/// The name of the file that is locked.
pub(crate) const LOCK: &str = "lock";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_link_that_waits_beside_a_file_is_not_written_through() {
        let folder = TempDir::new().unwrap();
        let (path, elsewhere) = (folder.path().join("file"), folder.path().join("elsewhere"));
        for (write, mode) in [(replace as fn(&Path, &[u8]) -> io::Result<()>, 0o644), (keep, 0o600)]
        {
            fs::write(&elsewhere, "theirs").unwrap();
            symlink(&elsewhere, folder.path().join("file.new")).unwrap();
            write(&path, b"ours").unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"ours");
            assert_eq!(fs::read(&elsewhere).unwrap(), b"theirs");
            let made = path.symlink_metadata().unwrap();
            assert!(made.is_file());
            assert_eq!(made.permissions().mode() & 0o777 & !mode, 0);
            fs::remove_file(&path).unwrap();
        }
    }
}
