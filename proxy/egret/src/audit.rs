//! The record of what egret did: who signs it.

use std::{path::Path, sync::Arc};

use egret_proxy::{Clock, Flush, RecordSettings, Recorder};

use crate::failure::Failure;

mod key;

pub(crate) use key::KeyError;

/// Opens the record, with the key that is kept in the state directory.
pub(crate) fn open(
    state: &Path,
    settings: &RecordSettings,
    clock: Arc<dyn Clock>,
) -> Result<(Recorder, Flush), Failure> {
    let key = key::for_serving(state)?;
    Recorder::open(settings.clone(), key, clock).map_err(Failure::Record)
}
