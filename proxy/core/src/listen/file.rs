//! The file of a Unix socket: made, replaced when it is left over, and removed.
//!
//! Who may connect is what the mode of the file and of its folders says, and the mode is what the
//! umask leaves: with the usual 022 nobody but egret's own user. A file is left over when it is a
//! socket behind which nobody listens; a file of any other kind is never touched, nor one that
//! cannot be asked. Two processes that start on one path in the same instant are not told apart
//! here: the lock of the state directory is there for that.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use tokio::net::{UnixListener, UnixStream};

use crate::caused::caused;

/// A socket's file that is ours to remove.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode, so that the file of a successor is not taken for ours.
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).ok() == Some(self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(
                error = %caused(&error),
                path = %self.path.display(),
                "remove the file of a socket"
            );
        }
    }
}

/// Returns the folder of `path` where somebody else than its owner may replace files, or where the
/// owner is neither root nor this process. In a folder with the sticky bit files are their owners'.
pub(super) fn shared_folder(path: &Path) -> io::Result<Option<PathBuf>> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let metadata = fs::metadata(folder)?;
    let (mode, owner) = (metadata.mode(), metadata.uid());
    let shared = mode & 0o022 != 0 && mode & 0o1000 == 0;
    let foreign = owner != 0 && owner != rustix::process::geteuid().as_raw();
    Ok((shared || foreign).then(|| folder.to_owned()))
}

pub(super) async fn bind(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let socket = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            make_way(path, error).await?;
            UnixListener::bind(path)?
        }
        bound => bound?,
    };
    let file = SocketFile { path: path.to_owned(), identity: identity(path)? };
    Ok((socket, file))
}

/// Removes what a process has left over that ended without a chance to; `in_use` is what to say
/// where it is not.
async fn make_way(path: &Path, in_use: io::Error) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "there is a file of that name, and it is no socket",
        ));
    }
    let left_over = identity(path)?;
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        // Somebody answers, or is too busy to, or may not be asked.
        Ok(_) | Err(_) => return Err(in_use),
    }
    if identity(path)? != left_over {
        return Err(in_use);
    }
    fs::remove_file(path)
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}
