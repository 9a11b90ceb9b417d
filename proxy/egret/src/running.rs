//! The proxy that runs on a state directory: `listening.json`, which it writes once it listens.
//!
//! What is written there counts only while the process lives that wrote it, which holds the lock
//! of the directory; its number alone might be another process's by now. A directory that may not
//! be looked into says nothing: its proxy runs as somebody else, or does not run. Neither does a
//! lock that may not be read and might have come with a checkout.

use std::{
    fs,
    io::{self, Read},
    net::SocketAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
    process::{Pid, test_kill_process},
};
use serde::Deserialize;

use crate::{config::Config, failure::Exit, files, listening, state};

mod socket;

/// Whether a proxy runs on a state directory.
#[derive(Debug)]
pub(crate) enum Running {
    /// It runs, and listens there; `None` stands for a Unix socket.
    Here { listeners: Vec<Option<SocketAddr>> },
    /// None runs.
    Nowhere,
    /// That cannot be told: the directory is somebody else's.
    Unknown,
}

impl Running {
    /// Whether it is the proxy of the directory that listens at an address of this machine.
    ///
    /// Where the directory may not be looked into, its proxy is known by its user, who must be
    /// another one than ours: a directory of our own is closed by whoever has made it. The socket
    /// may be root's, who makes it where a service manager hands it over. Where even the user is
    /// hidden, as that of a service with a dynamic one, it can be anybody but us if the
    /// configuration is root's, so that it has come with no checkout.
    pub(crate) fn is_at(&self, config: &Config, address: SocketAddr) -> bool {
        let own = files::own_user();
        match self {
            Self::Here { .. } => true,
            Self::Nowhere => false,
            Self::Unknown => match config.state.metadata().map(|directory| directory.uid()) {
                Ok(owner) => {
                    owner != own && socket::listens(address, |user| [owner, ROOT].contains(&user))
                }
                Err(error) => {
                    error.kind() == io::ErrorKind::PermissionDenied
                        && config.origin.is_roots()
                        && socket::listens(address, |user| user != own)
                }
            },
        }
    }
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
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Read { source, .. } => Exit::of_io(source, Exit::Failure),
            Self::Syntax { .. } => Exit::Failure,
        }
    }

    pub(crate) fn fix(&self) -> Option<String> {
        match self {
            Self::Read { path, .. } | Self::Syntax { path, .. } => {
                Some(format!("start egret again, or remove {}", path.display()))
            }
        }
    }
}

/// Looks for the proxy of a state directory.
pub(crate) fn find(directory: &Path) -> Result<Running, RunningError> {
    let path = directory.join(listening::NAME);
    let mut text = Vec::new();
    match files::open_regular(&path).and_then(|file| file.take(TEXT_MAX).read_to_end(&mut text)) {
        Ok(_) => {}
        Err(_) if !files::is_there(&path) => return Ok(Running::Nowhere),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Ok(Running::Unknown);
        }
        Err(source) => return Err(RunningError::Read { path, source }),
    }
    let Listening { pid, listeners } =
        serde_json::from_slice(&text).map_err(|source| RunningError::Syntax { path, source })?;
    let pid = Pid::from_raw(pid.max(0)).filter(|pid| lives(*pid));
    Ok(match pid.map_or(Owned::Not, |pid| is_owned(pid, directory)) {
        Owned::Held => {
            // What is no address of the network is the path of a Unix socket.
            let listeners = listeners.iter().map(|listener| listener.parse().ok()).collect();
            Running::Here { listeners }
        }
        Owned::Not => Running::Nowhere,
        Owned::Unknown => Running::Unknown,
    })
}

/// Whether there is a process of that number, whoever's it is.
fn lives(pid: Pid) -> bool {
    matches!(test_kill_process(pid), Ok(()) | Err(Errno::PERM))
}

/// Whether a proxy owns the directory.
pub(crate) fn is_locked(directory: &Path) -> bool {
    let mut text = String::new();
    let read = files::open_regular(&directory.join(state::LOCK));
    let read = read.and_then(|lock| lock.take(TEXT_MAX).read_to_string(&mut text));
    let owner = text.trim().parse().ok().and_then(Pid::from_raw);
    read.is_ok() && owner.is_some_and(|pid| owns(pid, directory).unwrap_or(false))
}

/// Whether a process owns a directory.
enum Owned {
    Held,
    Not,
    Unknown,
}

/// Whether that process owns the directory, or somebody does where it may not be looked at.
fn is_owned(pid: Pid, directory: &Path) -> Owned {
    if let Ok(owns) = owns(pid, directory) {
        return if owns { Owned::Held } else { Owned::Not };
    }
    let path = directory.join(state::LOCK);
    match files::open_regular(&path) {
        // Takes the lock for a moment when nobody has it.
        Ok(lock) => match flock(&lock, FlockOperation::NonBlockingLockShared) {
            Err(Errno::WOULDBLOCK) => Owned::Held,
            Ok(()) | Err(_) => Owned::Not,
        },
        // Whoever may not read the lock can tell only that it is the file of that process's user:
        // a file of our own has any mode, and names any process.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let maker = path.symlink_metadata().ok().map(|lock| lock.uid());
            let is_its = maker.is_some_and(|maker| user_of(pid) == Some(maker));
            if is_its && maker != Some(files::own_user()) { Owned::Held } else { Owned::Unknown }
        }
        Err(_) => Owned::Not,
    }
}

/// The user that a process runs as, if that may be seen.
fn user_of(pid: Pid) -> Option<u32> {
    let told = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).ok()?;
    let users = told.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    users.split_whitespace().nth(1)?.parse().ok()
}

/// Whether that process holds the lock of a directory, which is not touched to find out.
pub(crate) fn owns(pid: Pid, directory: &Path) -> io::Result<bool> {
    let lock = directory.join(state::LOCK).symlink_metadata()?;
    let process = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    for entry in process.join("fd").read_dir()? {
        let entry = entry?;
        let opened = match entry.path().metadata() {
            Ok(opened) => opened,
            // What was closed meanwhile is not what is looked for.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            // From another user namespace the names alone may be listed.
            Err(error) => return Err(error),
        };
        if (opened.dev(), opened.ino()) != (lock.dev(), lock.ino()) {
            continue;
        }
        let told = fs::read_to_string(process.join("fdinfo").join(entry.file_name()))?;
        let is_held = |line: &str| line.contains(" FLOCK ") && line.contains(" WRITE ");
        if told.lines().any(|line| line.starts_with("lock:") && is_held(line)) {
            return Ok(true);
        }
    }
    Ok(false)
}

const ROOT: u32 = 0;
/// No text of ours is longer.
const TEXT_MAX: u64 = 1 << 20;

/// What is read of the file.
#[derive(Deserialize)]
struct Listening {
    pid: i32,
    listeners: Vec<String>,
}
