//! Why a command was not run.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use rustix::process::Signal;

use super::lent::CLOSED;
use crate::failure::Exit;

/// Why a command was not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecError {
    #[error(
        "the command runs as a user that can read the state directory `{}`",
        state.display()
    )]
    StateOpen { state: PathBuf },
    #[error(
        "whether the proxy of the state directory `{}` listens at {address} cannot be told",
        state.display()
    )]
    Unproven { state: PathBuf, address: SocketAddr },
    #[error("start a proxy: it ended with exit code {code}")]
    NotStarted { code: u8 },
    #[error("start a proxy: it does not listen after {} s", after.as_secs())]
    Late { after: Duration },
    #[error("start a proxy: signal {} came before the command", signal.as_raw())]
    Interrupted { signal: Signal },
    #[error("start a proxy")]
    Start(#[source] io::Error),
    #[error("use `{}`", path.display())]
    Lock {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("there is no command `{program}`")]
    NotFound { program: String },
    #[error("run `{program}`")]
    NotRun {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("wait for the command")]
    Wait(#[source] io::Error),
}

impl ExecError {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::StateOpen { .. } | Self::Unproven { .. } => Exit::Permission,
            // What a shell says of such a command.
            Self::NotFound { .. } => Exit::Of(127),
            Self::NotRun { .. } => Exit::Of(126),
            Self::NotStarted { code } => Exit::Of(*code),
            Self::Late { .. } => Exit::Unavailable,
            // As if the command had been there for it.
            Self::Interrupted { signal } => {
                Exit::Of(u8::try_from(128 + signal.as_raw()).unwrap_or(u8::MAX))
            }
            Self::Lock { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Exit::Permission
            }
            Self::Lock { .. } | Self::Start(_) | Self::Wait(_) => Exit::Failure,
        }
    }

    pub(crate) fn fix(&self) -> Option<String> {
        match self {
            Self::StateOpen { .. } => Some(
                "run `egret serve` as a user of its own, with a state directory that only it can \
                 read; `egret exec` then uses that proxy"
                    .to_owned(),
            ),
            Self::Unproven { state, .. } => Some(format!(
                "run `egret serve` there; where its socket does not tell whose it is, let \
                 `listening.json` be reached and nothing listed (`chmod 711 {}`), or have root own \
                 the configuration",
                state.display()
            )),
            Self::NotStarted { .. } => Some("what it said stands above".to_owned()),
            Self::Late { .. } => Some("start it by itself and look: `egret serve`".to_owned()),
            Self::NotFound { .. } => Some("install it, or write its whole path".to_owned()),
            Self::Lock { source, .. } if CLOSED.contains(&source.kind()) => Some(
                "start `egret serve` where the directory can be written, or name another \
                 `state_dir`"
                    .to_owned(),
            ),
            Self::Lock { source, .. } if source.kind() == io::ErrorKind::WouldBlock => {
                Some("another `egret exec` begins or ends a proxy there; try again".to_owned())
            }
            Self::Lock { path, .. } => Some(format!("move `{}` away", path.display())),
            Self::NotRun { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("make it executable: `chmod +x`".to_owned())
            }
            Self::Start(_) | Self::Interrupted { .. } | Self::NotRun { .. } | Self::Wait(_) => None,
        }
    }
}
