//! The record of what egret did: opened for `serve`, and judged by `egret audit`.

use std::{io::ErrorKind, path::Path, sync::Arc};

use egret_proxy::{Clock, Flush, RecordSettings, Recorder, segments};

use crate::{
    cli,
    environment::Environment,
    failure::{Exit, Failure},
};

mod key;
mod verify;

pub(crate) use self::{key::KeyError, verify::VerifyError};

pub(crate) fn run(args: &cli::Audit, environment: &Environment) -> Result<Exit, Failure> {
    match &args.verb {
        cli::AuditVerb::Verify(args) => verify::run(args, environment),
    }
}

/// Opens the record, with the key that is kept in the state directory.
pub(crate) fn open(
    state: &Path,
    settings: &RecordSettings,
    clock: Arc<dyn Clock>,
) -> Result<(Recorder, Flush), Failure> {
    let anew = key::is_there(state) && is_without_segments(&settings.directory);
    let key = key::for_serving(state, settings)?;
    let opened = Recorder::open(settings.clone(), key, clock).map_err(Failure::Record)?;
    if anew {
        // Not refused, since moving records away is what several errors advise.
        tracing::warn!(
            records = %settings.directory.display(),
            "there is no record that `audit.key` has signed: a new chain begins"
        );
    }
    Ok(opened)
}

fn is_without_segments(directory: &Path) -> bool {
    match segments(directory) {
        Ok(numbers) => numbers.is_empty(),
        Err(error) => error.kind() == ErrorKind::NotFound,
    }
}
