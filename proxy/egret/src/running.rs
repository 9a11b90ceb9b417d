//! The proxy that runs on a state directory: `listening.json`, which it writes once it listens.
//!
//! What is written there counts only while the process lives that wrote it, which holds the lock
//! of the directory; its number alone might be another process's by now. A directory that may not
//! be looked into says nothing: its proxy runs as somebody else, or does not run.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
    process::{Pid, test_kill_process},
};
use serde::Deserialize;

use crate::{files, listening, state};

/// Whether a proxy runs on a state directory.
#[derive(Debug)]
pub(crate) enum Running {
    /// It runs as that process, and listens there; `None` stands for a Unix socket.
    Here { pid: Pid, listeners: Vec<Option<SocketAddr>> },
    /// None runs.
    Nowhere,
    /// The directory is somebody else's.
    Unknown,
}

/// Why it cannot be told whether a proxy runs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunningError {
    #[error("read `{}`", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{}` does not say where a proxy listens", path.display())]
    Syntax {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
}

impl RunningError {
    pub(crate) fn fix(&self) -> Option<String> {
        match self {
            Self::Read { .. } => None,
            Self::Syntax { path, .. } => {
                Some(format!("start egret again, or remove {}", path.display()))
            }
        }
    }
}

/// Looks for the proxy of a state directory.
pub(crate) fn find(directory: &Path) -> Result<Running, RunningError> {
    let path = directory.join(listening::NAME);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(_) if !files::is_there(&path) => return Ok(Running::Nowhere),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Ok(Running::Unknown);
        }
        Err(source) => return Err(RunningError::Read { path, source }),
    };
    let Listening { pid, listeners } =
        serde_json::from_slice(&text).map_err(|source| RunningError::Syntax { path, source })?;
    match Pid::from_raw(pid.max(0)).filter(|pid| lives(*pid) && is_locked(directory)) {
        Some(pid) => {
            // What is no address of the network is the path of a Unix socket.
            let listeners = listeners.iter().map(|listener| listener.parse().ok()).collect();
            Ok(Running::Here { pid, listeners })
        }
        None => Ok(Running::Nowhere),
    }
}

/// Whether there is a process of that number, whoever's it is.
fn lives(pid: Pid) -> bool {
    matches!(test_kill_process(pid), Ok(()) | Err(Errno::PERM))
}

/// Whether a proxy owns the directory. Asked only when there is a process that says so, as asking
/// takes the lock for a moment when nobody has it.
pub(crate) fn is_locked(directory: &Path) -> bool {
    match fs::File::open(directory.join(state::LOCK)) {
        Ok(lock) => flock(&lock, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK),
        // Whoever may not read the lock cannot tell; the process lives.
        Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
    }
}

/// What is read of the file.
#[derive(Deserialize)]
struct Listening {
    pid: i32,
    listeners: Vec<String>,
}
