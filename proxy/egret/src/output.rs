//! Prints answers on stdout. A reader that has heard enough (`egret … | head`) is no failure.

use std::io::{self, Write};

use serde::Serialize;

use crate::failure::Failure;

/// Prints text as it is; colours are dropped where nobody sees them.
pub(crate) fn text(text: &str) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    heard(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// Prints bytes for another program, as they are.
pub(crate) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    heard(out.write_all(bytes).and_then(|()| out.flush()))
}

/// Prints one JSON document on one line.
pub(crate) fn json(document: &impl Serialize) -> Result<(), Failure> {
    let line = serde_json::to_string(document).map_err(|error| Failure::Output(error.into()))?;
    let mut out = io::stdout().lock();
    heard(writeln!(out, "{line}").and_then(|()| out.flush()))
}

fn heard(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::Output(error)),
        Ok(()) => Ok(()),
    }
}
