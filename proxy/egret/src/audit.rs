//! The record of what egret did: opened for `serve`, and judged by `egret audit`.

use std::{path::Path, sync::Arc};

use egret_proxy::{Clock, Flush, RecordSettings, Recorder};

use crate::{
    cli,
    environment::Environment,
    failure::{Exit, Failure},
};

mod key;
mod progress;
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
    let key = key::for_serving(state, settings)?;
    Recorder::open(settings.clone(), key, clock).map_err(Failure::Record)
}
