//! `listening.json` in the state directory: which process serves there, and where.
//!
//! Other verbs read it to find the running proxy. It is there from when every socket is bound to
//! the end of the process, and replaced as a whole. A process that was killed leaves it behind,
//! so whoever reads it asks the lock of the directory whether anybody is there.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use egret_proxy::{ListenAddress, caused};
use serde::Serialize;

use crate::{failure::Failure, state};

/// The file, until this is dropped.
#[derive(Debug)]
pub(crate) struct Listening {
    path: PathBuf,
}

/// The text of the file; its names are public interface.
#[derive(Serialize)]
struct Text {
    pid: u32,
    listeners: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<SocketAddr>,
}

impl Listening {
    /// Says where this process listens; `directory` must be locked by it.
    pub(crate) fn write(
        directory: &Path,
        listeners: &[ListenAddress],
        metrics: Option<SocketAddr>,
    ) -> Result<Self, Failure> {
        let text = Text {
            pid: std::process::id(),
            listeners: listeners.iter().map(ToString::to_string).collect(),
            metrics,
        };
        let path = directory.join(NAME);
        let written = serde_json::to_vec(&text).map_err(Into::into).and_then(|mut bytes| {
            bytes.push(b'\n');
            state::replace(&path, &bytes)
        });
        match written {
            Ok(()) => Ok(Self { path }),
            Err(source) => Err(Failure::Write { path, source }),
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(
                error = %caused(&error),
                path = %self.path.display(),
                "remove what says where we listen"
            );
        }
    }
}

/// The name of the file in the state directory.
pub(crate) const NAME: &str = "listening.json";
