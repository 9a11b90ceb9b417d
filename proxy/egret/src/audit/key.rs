//! `audit.key` in the state directory: what signs the heads of the record.
//!
//! It is made at the first start, once the record is known to go on under it, and never replaced:
//! whoever keeps a head elsewhere keeps its public half too. A key that others may read or write
//! refuses the start, since with it a record can be written anew; so does one that cannot be
//! understood.

use std::{
    fs::File,
    io::{self, ErrorKind, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use egret_proxy::{HeadKey, HeadKeyError, RecordSettings, Recorder};

use crate::{
    failure::{Exit, Failure},
    files::{self, AS_A_READER, own_user},
    state,
};

/// Why the record cannot be signed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("use the key of the record, `{}`", path.display())]
    Use {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("understand the key of the record, `{}`", path.display())]
    Form {
        path: PathBuf,
        #[source]
        source: HeadKeyError,
    },
    #[error("the key of the record, `{}`, is open to others (mode {mode:03o})", path.display())]
    OpenToOthers { path: PathBuf, mode: u32 },
    #[error(
        "the key of the record, `{}`, belongs to user {owner}, who is neither root nor the user \
         that runs egret",
        path.display()
    )]
    OwnedByOther { path: PathBuf, owner: u32 },
}

impl KeyError {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Use { source, .. } => Exit::of_io(source, Exit::Failure),
            Self::Form { .. } => Exit::Failure,
            Self::OpenToOthers { .. } | Self::OwnedByOther { .. } => Exit::Configuration,
        }
    }

    pub(crate) fn fix(&self) -> Option<String> {
        match self {
            Self::Use { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
                Some(AS_A_READER.to_owned())
            }
            Self::Use { path, .. } | Self::Form { path, .. } => Some(format!(
                "put the key back from a copy; or move `{}` and the records away, and both begin \
                 anew",
                path.display()
            )),
            Self::OpenToOthers { path, .. } => Some(format!(
                "run `chmod 600 {}`; if somebody may have used it, move it and the records away, \
                 and both begin anew",
                path.display()
            )),
            Self::OwnedByOther { path, .. } => {
                Some(format!("run `chown {} {}`", own_user(), path.display()))
            }
        }
    }
}

/// Whether there was a start before this one.
pub(super) fn is_there(state: &Path) -> bool {
    files::is_there(&state.join(NAME))
}

/// Reads the key, or makes it where there is none and no record is signed under another. The state
/// directory is ours by now.
pub(super) fn for_serving(state: &Path, record: &RecordSettings) -> Result<HeadKey, Failure> {
    let path = state.join(NAME);
    let using = |source| KeyError::Use { path: path.clone(), source };
    match File::open(&path) {
        Ok(file) => Ok(read(&path, file)?),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let key = HeadKey::generate().map_err(io::Error::other).map_err(using)?;
            // A start that is refused must not leave a key that signs nothing.
            Recorder::judge(record, key.public()).map_err(Failure::Record)?;
            write(&path, &key).map_err(using)?;
            Ok(key)
        }
        Err(error) => Err(using(error).into()),
    }
}

fn read(path: &Path, file: File) -> Result<HeadKey, KeyError> {
    let using = |source| KeyError::Use { path: path.to_owned(), source };
    let metadata = file.metadata().map_err(using)?;
    let (mode, owner) = (metadata.mode() & 0o777, metadata.uid());
    if owner != 0 && owner != own_user() {
        return Err(KeyError::OwnedByOther { path: path.to_owned(), owner });
    }
    if mode & 0o077 != 0 {
        return Err(KeyError::OpenToOthers { path: path.to_owned(), mode });
    }
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes).map_err(using)?;
    HeadKey::from_pkcs8(&bytes).map_err(|source| KeyError::Form { path: path.to_owned(), source })
}

/// Writes it whole or not at all: half a key would refuse every start from then on.
fn write(path: &Path, key: &HeadKey) -> io::Result<()> {
    let bytes = key.to_pkcs8().map_err(io::Error::other)?;
    state::keep(path, bytes.as_ref())
}

const NAME: &str = "audit.key";
/// Far more than PKCS#8 needs.
const LONGEST: u64 = 4096;
