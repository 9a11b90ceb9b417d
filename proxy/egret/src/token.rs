//! The token of a worker, as the environment gives it: `EGRET_TOKEN`, or a file named by
//! `EGRET_TOKEN_FILE`.
//!
//! A variable that is there and of no use refuses; nobody becomes anonymous by a slip. A file that
//! others may write refuses, one that all may read is warned of. The token is never part of a
//! message: an error names the variable or the file.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::{ffi::OsStringExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use egret_vault_bridge::Secret;
use sha2::{Digest, Sha256};

use crate::{
    diagnostic::print_warning, environment::Environment, failure::Exit,
    files::is_writable_by_others,
};

/// A token that fits into proxy credentials.
#[derive(Debug)]
pub(crate) struct Token(Secret);

/// Why the environment gives no token, though it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("EGRET_TOKEN and EGRET_TOKEN_FILE are both set")]
    Both,
    #[error("read the token file `{}`", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("others may write the token file `{}` (mode {mode:03o})", path.display())]
    WritableByOthers { path: PathBuf, mode: u32 },
    #[error("{place} is empty")]
    Empty { place: String },
    #[error("{place} is longer than {LONGEST} bytes")]
    Long { place: String },
    #[error("{place} holds a byte that no token has: white space, a control, or none of ASCII")]
    Byte { place: String },
}

impl TokenError {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Read { source, .. } => Exit::of_io(source, Exit::Configuration),
            Self::Both
            | Self::WritableByOthers { .. }
            | Self::Empty { .. }
            | Self::Long { .. }
            | Self::Byte { .. } => Exit::Configuration,
        }
    }

    pub(crate) fn fix(&self) -> Option<String> {
        match self {
            Self::Both => Some("unset one of the two".to_owned()),
            Self::WritableByOthers { path, .. } => Some(close(path)),
            Self::Read { .. } => Some("name a file that holds the worker's token".to_owned()),
            Self::Empty { .. } => Some("put the worker's token there, or unset it".to_owned()),
            Self::Long { .. } | Self::Byte { .. } => {
                Some("make another one with `egret worker token ID`".to_owned())
            }
        }
    }
}

impl Token {
    /// Takes the token that the environment gives; `None` when it says nothing of one.
    pub(crate) fn of(environment: &Environment) -> Result<Option<Self>, TokenError> {
        match (&environment.token, &environment.token_file) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(TokenError::Both),
            (Some(token), None) => {
                Self::checked("EGRET_TOKEN".to_owned(), token.clone().into_vec()).map(Some)
            }
            (None, Some(path)) => Self::of_file(path).map(Some),
        }
    }

    /// Reads a file; one newline at its end is the editor's and not the token's.
    fn of_file(path: &Path) -> Result<Self, TokenError> {
        let cannot = |source| TokenError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(cannot)?;
        let mode = file.metadata().map_err(cannot)?.mode();
        if is_writable_by_others(mode) {
            return Err(TokenError::WritableByOthers { path: path.to_owned(), mode: mode & 0o777 });
        }
        if mode & READABLE_BY_ALL != 0 {
            let (file, mode) = (path.display(), mode & 0o777);
            print_warning(
                &format!("every user may read the token file `{file}` (mode {mode:03o})"),
                Some(&format!("{}, or mount the secret with that mode", close(path))),
            );
        }
        let mut token = Vec::new();
        file.take(LONGEST as u64 + 3).read_to_end(&mut token).map_err(cannot)?;
        if token.ends_with(b"\n") {
            token.pop();
            token.pop_if(|last| *last == b'\r');
        }
        Self::checked(format!("the token file `{}`", path.display()), token)
    }

    fn checked(place: String, token: Vec<u8>) -> Result<Self, TokenError> {
        let token = Secret::new(token);
        match token.expose() {
            [] => Err(TokenError::Empty { place }),
            bytes if bytes.len() > LONGEST => Err(TokenError::Long { place }),
            bytes if !bytes.iter().all(u8::is_ascii_graphic) => Err(TokenError::Byte { place }),
            _ => Ok(Self(token)),
        }
    }

    /// Returns what `token_sha256` says of it.
    pub(crate) fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.0.expose()).into()
    }

    /// Returns the token's bytes, to be shown to the proxy.
    pub(crate) fn expose(&self) -> &[u8] {
        self.0.expose()
    }
}

fn close(path: &Path) -> String {
    format!("run `chmod 600 {}`", path.display())
}

/// More than any token needs, and less than what a field of a request may hold.
const LONGEST: usize = 1024;

/// A file that gives a token away, as far as its folder may be entered: mounted secrets are so, and
/// are warned of. A group may read: that is how others of them reach their user.
const READABLE_BY_ALL: u32 = 0o004;
