//! How many records are missing, kept where it outlives the process: `missing.txt`, beside the
//! segments.
//!
//! Its digits are written over in place, which a disk without room takes as well. It is a count
//! for the next start and no evidence: a crash between the record that says it and this file may
//! say it twice, never not at all. Where it cannot be used the records go on without it.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    path::Path,
};

use crate::{caused::caused, record::folder};

#[derive(Debug)]
pub(super) struct Tally {
    file: Option<File>,
    stands: u64,
}

impl Tally {
    /// Opens it, or makes it while there is room. Returns what an earlier process has left, too.
    pub(super) fn open(directory: &Path) -> (Self, u64) {
        match open(&directory.join(NAME)) {
            Ok((file, left)) => (Self { file: Some(file), stands: left }, left),
            Err(error) => {
                tracing::error!(error = %caused(&error), "keep how many records are missing");
                (Self { file: None, stands: 0 }, 0)
            }
        }
    }

    /// Notes how many are missing now.
    pub(super) fn set(&mut self, missing: u64) {
        let Some(file) = self.file.as_ref().filter(|_| self.stands != missing) else { return };
        match file.write_all_at(digits(missing).as_bytes(), 0) {
            Ok(()) => self.stands = missing,
            Err(error) => tracing::debug!(%error, "keep how many records are missing"),
        }
    }

    /// Brings it to the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), File::sync_data)
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = folder::write_over(path).map_err(io::Error::other)?;
    let mut text = String::new();
    (&file).take(LENGTH + 1).read_to_string(&mut text)?;
    let left = match &text[..] {
        "" => 0,
        text => text.trim_end().parse().map_err(io::Error::other)?,
    };
    if text.len() as u64 != LENGTH {
        file.set_len(0)?;
        // Room for all that may come.
        file.write_all_at(digits(left).as_bytes(), 0)?;
        file.sync_all()?;
    }
    Ok((file, left))
}

fn digits(count: u64) -> String {
    format!("{count:020}\n")
}

/// Twenty digits hold every count.
const LENGTH: u64 = 21;
const NAME: &str = "missing.txt";
